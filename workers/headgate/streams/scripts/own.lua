#!lua flags=allow-oom
-- Who has one partition of an ordered branch: ends the leases that ran out, and does what a consumer wishes.
-- The partition is the owner's for as long as it has its lease. An owner without one can settle nothing (settle.lua looks
-- at the same leases), so whoever takes the partition then needs to ask nobody.
-- The token never gets smaller, not even when all was lost: it is at least the time at which the partition was taken.
-- KEYS  1 beats   2 owner: consumer, token, gave:CONSUMER (who gave it up with nothing begun), away:CONSUMER (who takes
--       no more)
-- ARGV  1 consumer   2 ms without a beat after which a consumer is dead
--       3 'look' | 'take' if nobody has it | 'give' up | 'leave': takes no more, and is no member from now on
-- Gives {-1} when this consumer has no lease, else the owner ('': nobody), the token as text, then the members
local consumer, wish = ARGV[1], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
if not redis.call('ZSCORE', KEYS[1], consumer) then return {-1} end

local stored = redis.call('HGETALL', KEYS[2])
local owner, token, away = '', 0, {}
for i = 1, #stored, 2 do
  local name, value = stored[i], stored[i + 1]
  if name == 'consumer' then
    owner = value
  elseif name == 'token' then
    token = tonumber(value)
  elseif string.sub(name, 1, 5) == 'away:' then
    local gone = string.sub(name, 6)
    if redis.call('ZSCORE', KEYS[1], gone) then away[gone] = true else redis.call('HDEL', KEYS[2], name) end
  end
end
if owner ~= '' and not redis.call('ZSCORE', KEYS[1], owner) then owner = '' end

if wish == 'take' and owner == '' then
  owner, token = consumer, math.max(token + 1, now)
  redis.call('HSET', KEYS[2], 'consumer', owner, 'token', string.format('%.0f', token))
  redis.call('HDEL', KEYS[2], 'gave:' .. consumer)
elseif wish == 'give' and owner == consumer then
  owner = ''
  redis.call('HDEL', KEYS[2], 'consumer')
  redis.call('HSET', KEYS[2], 'gave:' .. consumer, 1)
elseif wish == 'leave' then
  away[consumer] = true
  redis.call('HSET', KEYS[2], 'away:' .. consumer, 1)
end

local out = {owner, string.format('%.0f', token)}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if not away[member] then out[#out + 1] = member end
end
return out
