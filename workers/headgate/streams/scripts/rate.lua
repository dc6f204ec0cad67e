#!lua flags=allow-oom
-- A branch's rate limit over all its workers: the generic cell rate algorithm (GCRA), a token bucket kept as one time.
-- The key holds when the bucket is full again; each token taken moves that by one interval, and no further than the
-- bucket's size ahead of now. Without the key the bucket is full.
-- KEYS  1 rate
-- ARGV  1 tokens a second   2 size of the bucket in tokens   3 tokens wanted, negative: tokens given back unused
-- Gives the number of tokens granted, and the ms until there is one more (0: now)
local interval, size, wanted = 1e6 / tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
-- A thousandth of a token is lost to rounding sooner than it is missed.
local granted = math.min(wanted, math.floor(size - (full - now) / interval + 0.001))
full = full + granted * interval
if full > now then
  redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil((full - now) / 1000))
else
  redis.call('DEL', KEYS[1])
end
local wait = math.max(0, full + interval - size * interval - now)
return {granted, math.ceil(wait / 1000)}
