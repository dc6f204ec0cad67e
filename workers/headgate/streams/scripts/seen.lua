#!lua flags=no-writes
-- Which ids had been published to a partition that they belong to no longer, since partitions were added.
-- KEYS  1 settings   2 prefix of the dedupe marks
-- ARGV  1 number of partitions, as the publisher takes this one to know it, then ids
-- Gives {-1} when this partition knows another number, so that these ids may belong elsewhere; else 1, then for each id its entry, or '' when it was not
if redis.call('HMGET', KEYS[1], 'partitions')[1] ~= ARGV[1] then return {-1} end
local out = {1}
for i = 2, #ARGV do out[i] = redis.call('GET', KEYS[2] .. ARGV[i]) or '' end
return out
