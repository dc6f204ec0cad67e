#!lua flags=allow-oom
-- Reads new work for one consumer: due retries first, then the lanes in order of priority as far as the gate allows.
-- KEYS  1-3 the lanes   4 retry stream   5 delay set   6 gate   7 beats   8 closed   9 owner   10 held
-- ARGV  1 group   2 consumer   3 how many at most   4 how many of them the low lane has before the higher ones
--       5 1 to tell the streams' last ids where there is nothing, 2 that too, and only to the partition's owner
--       6 as 4, of the normal lane
-- Gives {-1} when the consumer has no lease, {-2} when the partition is another's, else: server time in ms, ms until the
-- next retry is due (-1: none), what waits (bits 2 normal, 4 low; the whole branch: 8 it is closed, 16 paused, 64 an
-- older partition has to be through first; 32 it drains: of the lanes only this script gives it anything), then for each
-- stream that gave something: its number in KEYS, its entries; of a lane that waits, what is past the gate's deadline,
-- besides what was asked for: the number below zero, {deadline in ms, entries}; or 0 and the last ids of the streams 1-4,
-- from which a blocking XREAD misses nothing that comes later
--@include fields.lua
--@include drain_place.lua
local GIVEN_UP = 100 -- of a lane in one read: the server is everybody's
local group, consumer, free = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {now, -1, 0}
if not redis.call('ZSCORE', KEYS[7], consumer) then return {-1} end
if ARGV[5] == '2' and redis.call('HGET', KEYS[9], 'consumer') ~= consumer then return {-2} end
local drains = false
if redis.call('EXISTS', KEYS[8], KEYS[10]) > 0 then
  if redis.call('EXISTS', KEYS[8]) == 1 then return {now, -1, 8} end
  local paused, growing = unpack(redis.call('HMGET', KEYS[10], 'paused', 'growing'))
  if paused or growing then return {now, -1, paused and 16 or 64} end
  drains = true
end

-- What a branch that drains has still to take of a lane, for the moment of one read.
local function take_drained(number, count)
  local at, to = unpack(redis.call('HMGET', KEYS[10], 'at:' .. number, 'to:' .. number))
  if not at then return end
  local there = #redis.call('XRANGE', KEYS[number], '(' .. at, to, 'COUNT', count)
  if there == 0 then return end
  redis.call('XGROUP', 'SETID', KEYS[number], group, at)
  local entries = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', there, 'STREAMS', KEYS[number], '>')[1][2]
  redis.call('XGROUP', 'SETID', KEYS[number], group, DRAINS)
  redis.call('HSET', KEYS[10], 'at:' .. number, entries[#entries][1])
  if redis.call('HGET', KEYS[10], 'left:' .. number) ~= '' then
    redis.call('HINCRBY', KEYS[10], 'left:' .. number, -#entries)
  end
  free = free - #entries
  out[#out + 1] = number
  out[#out + 1] = entries
end

local function take(number, count)
  if drains and number < 4 then return take_drained(number, count) end
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', KEYS[number], '>')
  if reply then
    local entries = reply[1][2]
    free = free - #entries
    out[#out + 1] = number
    out[#out + 1] = entries
  end
end

-- Retries that are due move to the branch's own retry stream, a whole batch in order of their due time.
local due = redis.call('ZRANGE', KEYS[5], '-inf', now, 'BYSCORE', 'LIMIT', 0, free)
for _, packed in ipairs(due) do
  redis.call('XADD', KEYS[4], '*', unpack(unpack_fields(packed)))
  redis.call('ZREM', KEYS[5], packed)
end
local head = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
if head[2] then out[2] = math.max(0, math.ceil(head[2] - now)) end
take(4, free)

if drains then out[3] = 32 end
local held, patience, deadline = {}, 0, nil
local gate = redis.call('GET', KEYS[6])
if gate then
  local bits, wait, most = string.match(gate, '^(%d+):(%d+):?(%d*)$')
  bits, patience, deadline = tonumber(bits), tonumber(wait), tonumber(most)
  out[3] = out[3] + bits
  held[3] = bits >= 4
  held[2] = bits % 4 >= 2
end

-- A held lane gives only what has waited longer than the gate's patience: it is delayed, never starved.
local function overdue(number, count, age)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[number])) do
    if info[2] == group then
      local last
      for i = 1, #info, 2 do if info[i] == 'last-delivered-id' then last = info[i + 1] end end
      return #redis.call('XRANGE', KEYS[number], '(' .. last, string.format('%d', now - age), 'COUNT', count)
    end
  end
  return 0
end

local function lane(number, count)
  if held[number] and count > 0 then count = overdue(number, count, patience) end
  if count > 0 then take(number, count) end
end

-- What is only to be given up takes no handler's place.
for number = 2, 3 do
  local count = deadline and held[number] and overdue(number, GIVEN_UP, deadline) or 0
  if count > 0 then
    local before, at = free, #out
    take(number, count)
    free = before
    if #out > at then out[at + 1], out[at + 2] = -number, {deadline, out[at + 2]} end
  end
end

if free > 0 then lane(3, math.min(free, tonumber(ARGV[4]))) end
if free > 0 then lane(2, math.min(free, tonumber(ARGV[6]))) end
for number = 1, 3 do
  if free > 0 then lane(number, free) end
end
if #out == 3 and ARGV[5] ~= '0' then
  local lasts = {}
  for number = 1, 4 do
    local entry = redis.call('XREVRANGE', KEYS[number], '+', '-', 'COUNT', 1)[1]
    lasts[number] = entry and entry[1] or '0-0'
  end
  out[4], out[5] = 0, lasts
end
return out
