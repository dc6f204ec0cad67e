#!lua flags=allow-oom
-- Moves a branch's retries that are due to its retry stream, where the next blocking read finds them. Reading does so too
-- (read.lua); this is for workers that wait for events meanwhile. Of a closed or paused one nothing
-- moves.
-- KEYS  1 retry stream   2 delay set   3 closed   4 held (drain_place.lua)
-- ARGV  1 how many at most
-- Gives ms until the next retry is due (0: there are more that are), or -1 when there is none to wait for
--@include fields.lua
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then
  local paused, growing = unpack(redis.call('HMGET', KEYS[4], 'paused', 'growing'))
  if paused or growing or redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, packed in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  redis.call('XADD', KEYS[1], '*', unpack(unpack_fields(packed)))
  redis.call('ZREM', KEYS[2], packed)
end
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return head[2] and math.max(0, math.ceil(head[2] - now)) or -1
