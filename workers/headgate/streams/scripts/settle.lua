#!lua flags=allow-oom
-- Settles a batch of one consumer's deliveries: acks each and writes its outcome at once, or refuses them all.
-- The fence is the consumer's lease (see register.lua): whoever claims from a consumer ends its lease first, in the
-- same script, so that a consumer with a lease owns everything it was given. Repeating a settle changes nothing,
-- because an outcome is written only for a delivery that is still pending.
-- KEYS  1-3 the lanes   4 retry stream   5 delay set   6 dead letters   7 stats   8 joins   9 joined   10 join prefix
--       11 beats
-- ARGV  1 group   2 consumer   3 busy time of the handlers in microseconds
--       4 join time-out in ms   5 number of joined branches, then their names
--       then for each of the streams 1-4: number of plainly done entries, then their ids
--       then outcomes: kind, stream 1-4, entry id, event id, published ms, and
--         'done' result JSON | 'retry' delay in ms, packed fields | 'dead' error, packed fields
--         | 'back' packed fields: goes to the retry stream as it is, where another worker gets it at once
-- Gives the number of deliveries settled, or -1 when the lease is lost
--@include fields.lua
--@include join.lua
local group, consumer = ARGV[1], ARGV[2]
if not redis.call('ZSCORE', KEYS[11], consumer) then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keys = {stats = KEYS[7], joins = KEYS[8], joined = KEYS[9]}
local timeout, branches = tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted = {}
for i = 1, branches do wanted[i] = ARGV[5 + i] end
local at = 6 + branches
local done, retried, dead, back = 0, 0, 0, 0

for stream = 1, 4 do
  local count = tonumber(ARGV[at])
  at = at + 1
  if count > 0 then
    done = done + redis.call('XACK', KEYS[stream], group, unpack(ARGV, at, at + count - 1))
    if stream == 4 then redis.call('XDEL', KEYS[4], unpack(ARGV, at, at + count - 1)) end
    at = at + count
  end
end

while at <= #ARGV do
  local kind, stream, entry, id, published = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  -- The outcome first, then the ack: scripts have no rollback, and what cannot be written must stay pending.
  local mine = #redis.call('XPENDING', KEYS[stream], group, entry, entry, 1) == 1
  if kind == 'done' then
    if mine then
      done = done + 1
      if branches > 0 then gather(keys, KEYS[10], id, group, '+' .. ARGV[at + 5], published, now, wanted, timeout) end
    end
    at = at + 6
  elseif kind == 'retry' then
    if mine then
      retried = retried + 1
      redis.call('ZADD', KEYS[5], now + tonumber(ARGV[at + 5]), ARGV[at + 6])
    end
    at = at + 7
  elseif kind == 'back' then
    if mine then
      back = back + 1
      redis.call('XADD', KEYS[4], '*', unpack(unpack_fields(ARGV[at + 5])))
    end
    at = at + 6
  else
    if mine then
      dead = dead + 1
      redis.call('XADD', KEYS[6], '*', 'error', ARGV[at + 5], unpack(unpack_fields(ARGV[at + 6])))
      if branches > 0 then gather(keys, KEYS[10], id, group, '-' .. ARGV[at + 5], published, now, wanted, timeout) end
    end
    at = at + 7
  end
  if mine then
    redis.call('XACK', KEYS[stream], group, entry)
    if stream == 4 then redis.call('XDEL', KEYS[4], entry) end
  end
end

if done > 0 then redis.call('HINCRBY', KEYS[7], 'done:' .. group, done) end
if retried > 0 then redis.call('HINCRBY', KEYS[7], 'retried:' .. group, retried) end
if dead > 0 then redis.call('HINCRBY', KEYS[7], 'dead:' .. group, dead) end
if tonumber(ARGV[3]) > 0 then redis.call('HINCRBY', KEYS[7], 'busy:' .. group, ARGV[3]) end
return done + retried + dead + back
