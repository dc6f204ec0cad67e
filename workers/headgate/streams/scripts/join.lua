-- The join, shared by the scripts that settle and that sweep.
-- `join` is a table: keys stats, joins, joined, outbox; prefix of the join hashes; wanted branches; needed results (0: all);
-- timeout in ms; output pipeline or ''.
-- A join's hash has a field an outcome: the branch's name for the event itself, branch/part for what it was split into;
-- the value is '+' and a result, '-' and an error, or '~': filtered out. Of the rest, '#at' is when the event was
-- published, '#type' and '#key' what its publisher called it, '#parts' how many parts were announced, '#in:<branch>' and '#bad:<branch>' how many of a branch's outcomes
-- of parts are in and have failed, '#again:<outcome>' that one had failed and was split when it was given again. '#late'
-- says that the record was made: what still comes is counted and dropped.
local LATE_KEPT_MS = 86400000
local RECORDS_KEPT = 1000000
local SMALL = 40 -- fields

local function netstring(text) return #text .. ':' .. text end

-- How a branch stands: all its outcomes in, and is that a result; how many are missing.
local function standing(found, parts, branch)
  local own = found[branch]
  local missing = (own and 0 or 1) + parts - tonumber(found['#in:' .. branch] or 0)
  local bad = tonumber(found['#bad:' .. branch] or 0) > 0 or (own and string.sub(own, 1, 1) == '-')
  return {missing = missing, failed = bad, is_in = missing <= 0, skipped = own == '~' and parts == 0}
end

-- Whether a join has what it needs, and whether it may still get it.
local function judge(join, found)
  local parts, results, open, skipped, failed = tonumber(found['#parts'] or 0), 0, 0, 0, 0
  for _, branch in ipairs(join.wanted) do
    local at = standing(found, parts, branch)
    if not at.is_in then open = open + 1
    elseif at.skipped then skipped = skipped + 1
    elseif at.failed then failed = failed + 1
    else results = results + 1 end
  end
  local all_in = open == 0
  if join.needed == 0 then return all_in, all_in and failed == 0, all_in, skipped == #join.wanted end
  local enough = results >= join.needed
  return enough or results + open < join.needed, enough, all_in, skipped == #join.wanted
end

-- What `judge` looks at: a join of thousands of parts is looked at as often, and must not be read whole each time. One
-- without parts is read whole at once: it is about to be a record.
local function peek(join, hash)
  local names, found = {'#parts'}, {}
  for _, branch in ipairs(join.wanted) do
    names[#names + 1] = branch
    names[#names + 1] = '#in:' .. branch
    names[#names + 1] = '#bad:' .. branch
  end
  for i, value in ipairs(redis.call('HMGET', hash, unpack(names))) do found[names[i]] = value or nil end
  return found
end

local function load(hash)
  local stored, found = redis.call('HGETALL', hash), {}
  for i = 1, #stored, 2 do found[stored[i]] = stored[i + 1] end
  return found
end

-- The record's fields: of the event itself, then of its parts by branch, as netstrings of part and outcome in turn.
local function record_of(join, found, root, whole, now)
  local record = {'complete', whole and 1 or 0, 'id', root, 'joined', now, 'published', found['#at'] or 0}
  for _, name in ipairs({'type', 'key'}) do
    if found['#' .. name] then
      record[#record + 1] = name
      record[#record + 1] = found['#' .. name]
    end
  end
  local parts_of = {}
  for field, outcome in pairs(found) do
    local slash = outcome ~= '~' and string.byte(field) ~= 35 and string.find(field, '/', 1, true)
    if slash then
      local branch, part = string.sub(field, 1, slash - 1), string.sub(field, slash + 1)
      parts_of[branch] = parts_of[branch] or {}
      table.insert(parts_of[branch], netstring(part) .. netstring(outcome))
    end
  end
  for _, branch in ipairs(join.wanted) do
    local own, at = found[branch], standing(found, tonumber(found['#parts'] or 0), branch)
    local kind = own and string.sub(own, 1, 1)
    local function put(name, value)
      record[#record + 1] = name .. ':' .. branch
      record[#record + 1] = value
    end
    if kind == '+' then put('result', string.sub(own, 2)) elseif kind == '-' then put('failed', string.sub(own, 2)) end
    if not at.is_in then put('missing', at.missing) end
    if parts_of[branch] then put('parts', table.concat(parts_of[branch])) end
  end
  return record
end

local function fields_packed(fields)
  local packed = {}
  for i, field in ipairs(fields) do packed[i] = netstring(tostring(field)) end
  return table.concat(packed)
end

-- Makes the final record of a join: into the records, or (dead_letters: their stream) among those whose time was up.
local function emit(join, root, found, whole, now, dead_letters)
  local record = record_of(join, found, root, whole, now)
  if dead_letters then
    redis.call('XADD', dead_letters, 'MAXLEN', '~', RECORDS_KEPT, '*', 'error', 'the join timed out', unpack(record))
  else
    redis.call('XADD', join.joined, 'MAXLEN', '~', RECORDS_KEPT, '*', unpack(record))
    if join.output ~= '' then
      redis.call('XADD', join.outbox, '*', 'to', join.output, 'kind', 'record', 'packed', fields_packed(record))
    end
  end
  redis.call('HINCRBY', join.stats, whole and 'joined' or 'partial', 1)
  redis.call('ZREM', join.joins, root)
end

-- What is remembered of an outcome once the record is made: that it is in, and whether it failed.
local function mark_of(outcome) return string.sub(outcome, 1, 1) == '-' and '-' or '' end

-- The record is made while outcomes are still out: remembers whose are in, so that the last one ends the memory too.
local function leave_late(join, root, found)
  local hash = join.prefix .. root
  for field, value in pairs(found) do
    if string.sub(field, 1, 1) ~= '#' and value ~= '' then redis.call('HSET', hash, field, mark_of(value)) end
  end
  redis.call('HSET', hash, '#late', 1)
  redis.call('PEXPIRE', hash, LATE_KEPT_MS)
end

-- Adds one outcome of a branch: of the event itself when id is the root's, else of the part that id names; `kids` is the
-- number of parts it was split into; `event` is its published ms, type and key ('': none). Makes the record when that decides the join. A second outcome of the same branch for
-- the same event changes nothing; nor does one of an event that is given `again` after its join was made. Which outcomes
-- are wanted is asked of the branches by name: what a branch left that has gone from the join since is none.
local function gather(join, root, branch, id, outcome, kids, event, now, again)
  local hash, is_part = join.prefix .. root, id ~= root
  local is_late = redis.call('HEXISTS', hash, '#late') == 1
  local field = is_part and branch .. '/' .. id or branch
  -- A part's join, and that of an event given again, is there until its last outcome is in: one that has gone was made.
  if ((is_part or again) and redis.call('EXISTS', hash) == 0)
    or redis.call('HSETNX', hash, field, is_late and mark_of(outcome) or outcome) == 0 then
    redis.call('HINCRBY', join.stats, 'late', 1)
    -- What had failed, and is split when it is given again, has parts all the same; their outcomes will be counted.
    local before = kids > 0 and redis.call('HGET', hash, field)
    if before and string.sub(before, 1, 1) == '-' and redis.call('HSETNX', hash, '#again:' .. field, 1) == 1 then
      redis.call('HINCRBY', hash, '#parts', kids)
    end
    return
  end
  if is_part then
    redis.call('HINCRBY', hash, '#in:' .. branch, 1)
    if string.sub(outcome, 1, 1) == '-' then redis.call('HINCRBY', hash, '#bad:' .. branch, 1) end
  end
  if kids > 0 then redis.call('HINCRBY', hash, '#parts', kids) end
  if is_late then
    redis.call('HINCRBY', join.stats, 'late', 1)
    local _, _, all_in = judge(join, peek(join, hash))
    if all_in then redis.call('DEL', hash) end
    return
  end
  if redis.call('HSETNX', hash, '#at', event.published) == 1 then
    redis.call('ZADD', join.joins, now + join.timeout, root)
    redis.call('HSET', hash, '#type', event.type)
    if event.key ~= '' then redis.call('HSET', hash, '#key', event.key) end
  end
  -- The common case costs no look at the results: a branch of a plain All-join has not come yet.
  if join.needed == 0 then
    for _, each in ipairs(join.wanted) do
      if redis.call('HEXISTS', hash, each) == 0 then return end
    end
  end
  local found = redis.call('HLEN', hash) <= SMALL and load(hash)
  local decided, whole, all_in, is_skipped = judge(join, found or peek(join, hash))
  if not decided then return end
  found = found or load(hash)
  -- Nobody wanted the event: there is nothing to tell of it.
  if is_skipped then redis.call('ZREM', join.joins, root) else emit(join, root, found, whole, now) end
  if all_in then redis.call('DEL', hash) else leave_late(join, root, found) end
end
