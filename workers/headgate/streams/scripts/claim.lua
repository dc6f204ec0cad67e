#!lua flags=allow-oom
-- Claims what is pending on a partition of an ordered branch for its new owner, whoever holds it, a page at a time.
-- A delivery is counted where its holder died with it; not where the holder gave the partition up (own.lua), for then it
-- had not begun it, nor where it is the owner's own, which asks again. What is not asked for yet is not counted either: an
-- event that ends its workers must not take all that waits behind it along.
-- KEYS  1-3 the lanes   4 retry stream   5 beats   6 owner
-- ARGV  1 group   2 consumer   3 how many at most   4 stream to go on with (0: the first)   5 the last entry of it before
-- Gives {-1} without a lease, {-2} when the partition is another's, else the stream to go on with (-1: that was all) and
-- its last entry, then for each claim: stream 1-4, delivery count, entry. Retries come first, then the lanes in order.
local group, consumer, free, stream, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
if not redis.call('ZSCORE', KEYS[5], consumer) then return {-1} end
if redis.call('HGET', KEYS[6], 'consumer') ~= consumer then return {-2} end
local after = {[4] = 1, [1] = 2, [2] = 3, [3] = -1}
if stream == 0 then stream = 4 end
local out = {0, ''}

while stream > 0 and free > 0 do
  local asked = free
  local page = redis.call('XPENDING', KEYS[stream], group, last == '' and '-' or '(' .. last, '+', asked)
  for _, held in ipairs(page) do
    local id, holder, count = held[1], held[2], held[4]
    if holder ~= consumer and redis.call('HEXISTS', KEYS[6], 'gave:' .. holder) == 0 then count = count + 1 end
    local claimed = redis.call('XCLAIM', KEYS[stream], group, consumer, 0, id, 'RETRYCOUNT', count)
    -- An entry that a hard trim took is gone from the pending list too: there is nothing left to deliver.
    if claimed[1] then
      free = free - 1
      out[#out + 1] = stream
      out[#out + 1] = count
      out[#out + 1] = claimed[1]
    end
  end
  if #page < asked then
    stream, last = after[stream], ''
  else
    last = page[#page][1]
  end
end
if stream < 0 then
  for _, name in ipairs(redis.call('HKEYS', KEYS[6])) do
    if string.sub(name, 1, 5) == 'gave:' then redis.call('HDEL', KEYS[6], name) end
  end
end
out[1], out[2] = stream, last
return out
