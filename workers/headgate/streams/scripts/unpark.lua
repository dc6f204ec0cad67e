#!lua flags=allow-oom
-- Sets free what an ordered branch parked on a partition, once it is ordered no longer: all of it goes to the retry
-- stream, for nobody else would take it from where it waits.
-- KEYS  1 retry stream   2 stats   3 blocked   4 parked prefix   5 owner
-- ARGV  1 group   2 how many events at most
-- Gives the number of events set free
--@include fields.lua
local free, moved = tonumber(ARGV[2]), 0
for _, key in ipairs(redis.call('HKEYS', KEYS[3])) do
  while moved < free do
    local packed = redis.call('LPOP', KEYS[4] .. key)
    if not packed then
      redis.call('HDEL', KEYS[3], key)
      break
    end
    redis.call('XADD', KEYS[1], '*', unpack(unpack_fields(packed)))
    moved = moved + 1
  end
end
if moved > 0 then redis.call('HINCRBY', KEYS[2], 'parked:' .. ARGV[1], -moved) end
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('DEL', KEYS[5]) end
return moved
