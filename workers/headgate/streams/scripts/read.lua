#!lua flags=allow-oom
-- Reads new work for one consumer: due retries first, then the lanes in order of priority as far as the gate allows.
-- KEYS  1-3 the lanes   4 retry stream   5 delay set   6 gate   7 beats   8 closed   9 owner
-- ARGV  1 group   2 consumer   3 how many at most   4 1 to let the lower lanes have a share before the higher ones
--       5 1 to tell the streams' last ids where there is nothing, 2 that too, and only to the partition's owner
-- Gives {-1} when the consumer has no lease, {-2} when the partition is another's, else: server time in ms, ms until the
-- next retry is due (-1: none), what waits (bits 2 normal, 4 low, 8 the whole branch, which is closed), then for each
-- stream that gave something: its number in KEYS, its entries; or 0 and the last ids of the streams 1-4, from which a
-- blocking XREAD misses nothing that comes later
--@include fields.lua
local group, consumer, free = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {now, -1, 0}
if not redis.call('ZSCORE', KEYS[7], consumer) then return {-1} end
if ARGV[5] == '2' and redis.call('HGET', KEYS[9], 'consumer') ~= consumer then return {-2} end
if redis.call('EXISTS', KEYS[8]) == 1 then return {now, -1, 8} end

local function take(number, count)
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

local held, patience = {}, 0
local gate = redis.call('GET', KEYS[6])
if gate then
  local bits, wait = string.match(gate, '^(%d+):(%d+)$')
  bits, patience = tonumber(bits), tonumber(wait)
  out[3] = bits
  held[3] = bits >= 4
  held[2] = bits % 4 >= 2
end

-- A held lane gives only what has waited longer than the gate's patience: it is delayed, never starved.
local function overdue(number, count)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[number])) do
    if info[2] == group then
      local last
      for i = 1, #info, 2 do if info[i] == 'last-delivered-id' then last = info[i + 1] end end
      return #redis.call('XRANGE', KEYS[number], '(' .. last, string.format('%d', now - patience), 'COUNT', count)
    end
  end
  return 0
end

local function lane(number, count)
  if held[number] and count > 0 then count = overdue(number, count) end
  if count > 0 then take(number, count) end
end

if ARGV[4] == '1' and free > 0 then
  local share = math.max(1, math.floor(free / 8))
  lane(3, share)
  if free > 0 then lane(2, math.min(free, share)) end
end
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
