#!lua
-- Takes a run of another slot's outbox into this partition, each entry once: the mark says how far it was taken, and who
-- relays begins at the oldest, so that a repeated or a late relay changes nothing.
-- KEYS  1-3 the lanes   4 dedupe prefix   5 values   6 relayed   7 settings
-- ARGV  1 name of the outbox, then for each entry, in order: its id, kind, and three values:
--       'emit' lane 1-3, event id, packed fields | 'put' key, value, '' | 'drop' key, '' or only what it may be, ''
-- Gives how many were new, or -1 when there is no such pipeline (any more)
--@include fields.lua
--@include ids.lua
if redis.call('EXISTS', KEYS[7]) == 0 then return -1 end
local window = tonumber(redis.call('HGET', KEYS[7], 'dedupeMs')) or 0
local mark, taken = redis.call('HGET', KEYS[6], ARGV[1]) or '0-0', 0
for at = 2, #ARGV, 5 do
  local id, kind, first, second, third = unpack(ARGV, at, at + 4)
  if before(mark, id) then
    if kind == 'put' then
      redis.call('HSET', KEYS[5], first, second)
    elseif kind == 'drop' then
      if second == '' or redis.call('HGET', KEYS[5], first) == second then redis.call('HDEL', KEYS[5], first) end
    elseif window == 0 or redis.call('EXISTS', KEYS[4] .. second) == 0 then
      local entry = redis.call('XADD', KEYS[tonumber(first)], '*', unpack(unpack_fields(third)))
      if window > 0 then redis.call('SET', KEYS[4] .. second, entry, 'PX', window) end
    end
    -- After each, so that an entry the server refuses leaves those before it taken.
    redis.call('HSET', KEYS[6], ARGV[1], id)
    mark, taken = id, taken + 1
  end
end
return taken
