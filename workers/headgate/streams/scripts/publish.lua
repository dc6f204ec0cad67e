#!lua
-- Publishes a batch of events into one partition; an id already seen within the dedupe window adds nothing, and neither
-- does one for a lane that is rejected.
-- KEYS  1-3 the lanes high, normal, low   4 prefix of the dedupe marks   5 rejection: <bits>:..., 2 normal, 4 low
--       6 settings
-- ARGV  1 dedupe window in ms (0: none)   2 1 to renew the mark of a duplicate, so that the caller's WAIT has a write to
--       wait for (it counts its connection's own only)   3 number of partitions, as the caller takes this one to know it, then for each event: lane 1-3, id, number of field parts, the parts
-- Gives, for each event: its entry id, 1 when it is a duplicate (then the entry id of the first), 2 when it is refused
-- (then what KEYS[5] says), else 0; or {-1} when this partition knows another number: then
-- nothing is written
local partitions = redis.call('HMGET', KEYS[6], 'partitions')[1]
if partitions and partitions ~= ARGV[3] then return {-1} end
local window = tonumber(ARGV[1])
local out = {}
local renews = ARGV[2] == '1'
local rejection = redis.call('GET', KEYS[5])
local refused = {}
if rejection then
  local bits = tonumber(string.match(rejection, '^(%d+):'))
  refused[2], refused[3] = bits % 4 >= 2, bits >= 4
end
local at = 4
while at <= #ARGV do
  local lane, id, parts = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  at = first + parts
  local seen = window > 0 and redis.call('GET', KEYS[4] .. id)
  if seen then
    if renews then redis.call('PEXPIRE', KEYS[4] .. id, window) end
    out[#out + 1] = seen
    out[#out + 1] = 1
  elseif refused[lane] then
    out[#out + 1] = rejection
    out[#out + 1] = 2
  else
    local entry = redis.call('XADD', KEYS[lane], '*', unpack(ARGV, first, at - 1))
    if window > 0 then redis.call('SET', KEYS[4] .. id, entry, 'PX', window) end
    out[#out + 1] = entry
    out[#out + 1] = 0
  end
end
return out
