#!lua flags=allow-oom
-- Gives a consumer its lease: from now on it may read and settle, until its heart stops beating.
-- A lease lost is lost for ever; the worker comes back under another name. That makes the lease a fence.
-- KEYS  1 high lane   2 beats
-- ARGV  1 group   2 consumer
-- Gives 1, or 0 when the branch has no group (not provisioned, or removed)
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if info[2] == ARGV[1] then
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2])
    return 1
  end
end
return 0
