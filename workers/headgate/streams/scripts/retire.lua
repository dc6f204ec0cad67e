#!lua flags=allow-oom
-- Ends the leases of a worker, under every name it has had, so that what it holds can be claimed at once.
-- KEYS  1 beats
-- ARGV  1 the worker's name (its consumers are named NAME.SUFFIX)
-- Gives the number of leases ended
local ended = 0
local prefix = ARGV[1] .. '.'
for _, consumer in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if consumer == ARGV[1] or string.sub(consumer, 1, #prefix) == prefix then
    ended = ended + redis.call('ZREM', KEYS[1], consumer)
  end
end
return ended
