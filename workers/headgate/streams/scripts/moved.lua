#!lua flags=allow-oom
-- The keys of a branch that moved when partitions were added are at their new places from now on (`moving`, ensure.lua).
-- KEYS  1 settings
-- ARGV  1 group   2 number of partitions there were: of this growth, and of those before
-- Gives the growths that the branch still waits for here, by commas
local field, open = 'moving:' .. ARGV[1], tonumber(ARGV[2])
local left = {}
for from in string.gmatch(redis.call('HGET', KEYS[1], field) or '', '%d+') do
  if tonumber(from) > open then left[#left + 1] = from end
end
local moving = table.concat(left, ',')
if left[1] then redis.call('HSET', KEYS[1], field, moving) else redis.call('HDEL', KEYS[1], field) end
return moving
