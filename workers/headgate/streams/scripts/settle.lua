#!lua flags=allow-oom
-- Settles a batch of one consumer's deliveries: writes each outcome and its effects and acks it, at once, or refuses all.
-- The fence is the consumer's lease (see register.lua): whoever claims from a consumer ends its lease first, in the
-- same script, so that a consumer with a lease owns everything it was given. Repeating a settle changes nothing,
-- because an outcome is written only for a delivery that is still pending.
-- KEYS  1-3 the lanes   4 retry stream   5 delay set   6 dead letters   7 stats   8 joins   9 joined   10 join prefix
--       11 beats   12 counts   13 values   14 outbox   15 settings   16 dedupe prefix   17 blocked   18 parked prefix
--       19 again
-- ARGV  1 group   2 consumer   3 busy time of the handlers in microseconds   4 1 when ordered by key
--       5 join time-out in ms   6 results a join needs (0: all)   7 pipeline that gets its records ('': none)
--       8 number of joined branches, then their names
--       then for each of the streams 1-4: number of plainly done entries, then their ids
--       then for each of the streams 1-4: number of plainly filtered entries, then their ids
--       then outcomes: kind, stream 1-4, entry id, event id, root id, published ms, type, key, two of its own:
--         'done' result JSON, '' | 'filtered' '', '' | 'retry' delay in ms, packed fields | 'dead' error, packed fields
--         | 'expired' as 'dead', of what no handler was given
--         | 'back' packed fields, '': to the retry stream as it is, where another worker gets it at once
--         | 'park' packed fields, '': behind what its key waits for
--       then the number of effects, then each with three values (effects.lua)
-- Gives {-1} when the lease is lost, else how many were settled, how many entries the outbox got, the keys unblocked
--@include fields.lua
--@include join.lua
--@include again.lua
--@include effects.lua
local group, consumer, ordered = ARGV[1], ARGV[2], ARGV[4] == '1'
if not redis.call('ZSCORE', KEYS[11], consumer) then return {-1} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local join = {
  stats = KEYS[7], joins = KEYS[8], joined = KEYS[9], prefix = KEYS[10], outbox = KEYS[14],
  timeout = tonumber(ARGV[5]), needed = tonumber(ARGV[6]), output = ARGV[7], wanted = {},
}
local branches = tonumber(ARGV[8])
for i = 1, branches do join.wanted[i] = ARGV[8 + i] end
local at = 9 + branches
local done, filtered, retried, dead, back, parked, expired = 0, 0, 0, 0, 0, 0, 0
local out = {0, 0}

-- Back to the branch alone; an event of a key that waits for another goes behind it.
local function requeue(key, id, packed)
  if ordered and key ~= '' then
    local head = redis.call('HGET', KEYS[17], key)
    if head and head ~= id then
      redis.call('RPUSH', KEYS[18] .. key, packed)
      parked = parked + 1
      return
    end
    redis.call('HSET', KEYS[17], key, id)
  end
  redis.call('XADD', KEYS[4], '*', unpack(unpack_fields(packed)))
end

-- The event its key waited for is settled: the next one behind it goes to the retry stream, or the key is free.
local function release(key, id)
  if redis.call('HGET', KEYS[17], key) ~= id then return end
  local packed = redis.call('LPOP', KEYS[18] .. key)
  if packed then
    local fields = unpack_fields(packed)
    for i = 1, #fields, 2 do if fields[i] == 'id' then redis.call('HSET', KEYS[17], key, fields[i + 1]) end end
    redis.call('XADD', KEYS[4], '*', unpack(fields))
    parked = parked - 1
  else
    redis.call('HDEL', KEYS[17], key)
    out[#out + 1] = key
  end
end

-- While a branch's ordering is changed, workers that heed it and others settle side by side: whoever settles what a key
-- waits for frees it, for afterwards nobody would.
local heeds_keys = ordered or redis.call('EXISTS', KEYS[17]) == 1

-- What a key waits for comes by the retry stream only, and names its key itself. Of an ordered branch it is no plain one.
local function ack_freeing(id)
  local found = redis.call('XRANGE', KEYS[4], id, id)[1]
  if redis.call('XACK', KEYS[4], group, id) == 0 then return 0 end
  local fields = {}
  for i = 1, found and #found[2] or 0, 2 do fields[found[2][i]] = found[2][i + 1] end
  if fields.key and fields.id then release(fields.key, fields.id) end
  return 1
end

local function ack_plainly()
  local acked = 0
  for stream = 1, 4 do
    local count = tonumber(ARGV[at])
    at = at + 1
    if count > 0 then
      if stream == 4 and heeds_keys then
        for each = at, at + count - 1 do acked = acked + ack_freeing(ARGV[each]) end
      else
        acked = acked + redis.call('XACK', KEYS[stream], group, unpack(ARGV, at, at + count - 1))
      end
      if stream == 4 then redis.call('XDEL', KEYS[4], unpack(ARGV, at, at + count - 1)) end
      at = at + count
    end
  end
  return acked
end

done = ack_plainly()
filtered = ack_plainly()

local is_sound = false
while at <= #ARGV do
  local kind, stream, entry, id, root, published, event_type, key = unpack(ARGV, at, at + 7)
  local first, second, effects = ARGV[at + 8], ARGV[at + 9], tonumber(ARGV[at + 10])
  local effects_at = at + 11
  at = effects_at + 4 * effects
  stream = tonumber(stream)
  -- The outcome first, then the ack: scripts have no rollback, and what cannot be written must stay pending.
  if #redis.call('XPENDING', KEYS[stream], group, entry, entry, 1) == 1 then
    local kids, outcome, again = 0, nil, branches > 0 and is_again(KEYS[19], KEYS, stream, entry)
    if effects > 0 and not is_sound then
      check_effect_keys(KEYS)
      is_sound = true
    end
    if kind == 'done' then
      done, outcome = done + 1, '+' .. first
      for each = effects_at, at - 1, 4 do
        local kid, outboxed = apply_effect(KEYS, group, unpack(ARGV, each, each + 3))
        kids, out[2] = kids + kid, out[2] + outboxed
      end
    elseif kind == 'filtered' then
      filtered, outcome = filtered + 1, '~'
    elseif kind == 'retry' then
      retried = retried + 1
      redis.call('ZADD', KEYS[5], now + tonumber(first), again and second .. AGAIN_PACKED or second)
      -- An event of a lane comes before whatever was put behind it; one of the retry stream may be a redriven one.
      if ordered and key ~= '' then redis.call(stream < 4 and 'HSET' or 'HSETNX', KEYS[17], key, id) end
    elseif kind == 'dead' or kind == 'expired' then
      dead, outcome = dead + 1, '-' .. first
      if kind == 'expired' then expired = expired + 1 end
      redis.call('XADD', KEYS[6], '*', 'error', first, unpack(unpack_fields(second)))
    else
      back = back + 1
      requeue(key, id, again and first .. AGAIN_PACKED or first)
    end
    if outcome then
      if branches > 0 then
        local event = {published = published, type = event_type, key = key}
        gather(join, root, group, id, outcome, kids, event, now, again)
      end
      if heeds_keys and key ~= '' then release(key, id) end
    end
    redis.call('XACK', KEYS[stream], group, entry)
    if stream == 4 then redis.call('XDEL', KEYS[4], entry) end
  end
end

local function add(counter, n) if n ~= 0 then redis.call('HINCRBY', KEYS[7], counter .. ':' .. group, n) end end
add('done', done)
add('filtered', filtered)
add('retried', retried)
add('dead', dead)
add('expired', expired)
add('parked', parked)
add('busy', tonumber(ARGV[3]))
out[1] = done + filtered + retried + dead + back
return out
