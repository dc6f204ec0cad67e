#!lua flags=allow-oom
-- One heartbeat of a consumer, and what it finds dead: ends the leases of consumers that stopped beating, claims what
-- consumers without a lease still hold, and deletes those that hold nothing. Claim before delete: deleting a consumer
-- drops what it holds for ever.
-- KEYS  1-3 the lanes   4 retry stream   5 beats
-- ARGV  1 group   2 consumer   3 ms without a beat after which a consumer is dead   4 how many to claim at most
-- Gives -1 when this consumer's own lease is lost, else 1 and then for each claim: stream 1-4, delivery count, entry
local group, consumer, free = ARGV[1], ARGV[2], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not redis.call('ZSCORE', KEYS[5], consumer) then return {-1} end
redis.call('ZADD', KEYS[5], now, consumer)
-- After the clock went back a dead consumer's lease would last until it is that late again: it lasts from now on.
for _, ahead in ipairs(redis.call('ZRANGE', KEYS[5], '(' .. now, '+inf', 'BYSCORE')) do
  redis.call('ZADD', KEYS[5], now, ahead)
end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - tonumber(ARGV[3]))
local out = {1}
for stream = 1, 4 do
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[stream], group)) do
    local name, pending = info[2], info[4]
    if not redis.call('ZSCORE', KEYS[5], name) then
      if pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[stream], group, name)
      elseif free > 0 then
        for _, held in ipairs(redis.call('XPENDING', KEYS[stream], group, '-', '+', free, name)) do
          local claimed = redis.call('XCLAIM', KEYS[stream], group, consumer, 0, held[1])
          -- An entry that a hard trim took is gone from the pending list too: there is nothing left to deliver.
          if claimed[1] then
            free = free - 1
            out[#out + 1] = stream
            out[#out + 1] = held[4] + 1
            out[#out + 1] = claimed[1]
          end
        end
      end
    end
  end
end
return out
