-- The join, shared by the scripts that settle and that sweep.
-- A join's hash holds each branch's outcome ('+' and its result, or '-' and its error), and '#at' when the event was
-- published. What was emitted on time-out leaves '#late', so that a late outcome finds it.
local LATE_KEPT_MS = 86400000
local RECORDS_KEPT = 1000000

-- Emits the final record of a join and forgets it. keys: stats, joins, joined; prefix of the join hashes.
local function emit(keys, prefix, id, now, wanted)
  local hash = prefix .. id
  local stored = redis.call('HGETALL', hash)
  local record, outcomes, whole = {'id', id, 'joined', now}, {}, 1
  for i = 1, #stored, 2 do
    if stored[i] == '#at' then
      record[#record + 1] = 'published'
      record[#record + 1] = stored[i + 1]
    elseif string.sub(stored[i], 1, 1) ~= '#' then
      outcomes[stored[i]] = stored[i + 1]
    end
  end
  for _, branch in ipairs(wanted) do
    local outcome = outcomes[branch]
    if not outcome then
      whole = 0
      record[#record + 1] = 'missing:' .. branch
      record[#record + 1] = ''
    elseif string.sub(outcome, 1, 1) == '+' then
      record[#record + 1] = 'result:' .. branch
      record[#record + 1] = string.sub(outcome, 2)
    else
      whole = 0
      record[#record + 1] = 'failed:' .. branch
      record[#record + 1] = string.sub(outcome, 2)
    end
  end
  redis.call('XADD', keys.joined, 'MAXLEN', '~', RECORDS_KEPT, '*', 'complete', whole, unpack(record))
  redis.call('HINCRBY', keys.stats, whole == 1 and 'joined' or 'partial', 1)
  redis.call('ZREM', keys.joins, id)
  redis.call('DEL', hash)
end

-- Adds one branch's outcome; emits when it is the last one. A second outcome of the same branch changes nothing.
-- Which one is the last is asked of the branches by name: what a branch left that has gone from the join since is none.
local function gather(keys, prefix, id, branch, outcome, published, now, wanted, timeout)
  local hash = prefix .. id
  if redis.call('HEXISTS', hash, '#late') == 1 or redis.call('HSETNX', hash, branch, outcome) == 0 then
    redis.call('HINCRBY', keys.stats, 'late', 1)
    return
  end
  if redis.call('HSETNX', hash, '#at', published) == 1 then redis.call('ZADD', keys.joins, now + timeout, id) end
  for _, each in ipairs(wanted) do
    if redis.call('HEXISTS', hash, each) == 0 then return end
  end
  emit(keys, prefix, id, now, wanted)
end
