#!lua flags=no-writes
-- Whether a branch is through with what had been published to one partition when partitions were added.
-- KEYS  1-3 the lanes   4 settings   5 blocked
-- ARGV  1 group
-- Gives {0} when it is not, else 1 and then the keys whose oldest event waits for its next attempt (settle.lua): the
-- caller knows which of them belong to another partition now
--@include ids.lua
--@include groups.lua
--@include drain_place.lua
for lane = 1, 3 do
  local bound = redis.call('HGET', KEYS[4], 'bound:' .. lane)
  for _, group in ipairs(bound and groups_of(KEYS[lane]) or {}) do
    if group.name == ARGV[1] then
      local prefix = string.match(KEYS[4], '^(.*)settings$')
      local last = group.last == DRAINS and place_of_drain(prefix, lane, group.name) or group.last
      local open = group.last ~= DRAINS and bound or redis.call('HGET', prefix .. 'held:' .. group.name, 'to:' .. lane)
      if before(last, open) and redis.call('XRANGE', KEYS[lane], '(' .. last, open, 'COUNT', 1)[1] then return {0} end
      if group.oldest and not before(bound, group.oldest) then return {0} end
    end
  end
end
local out = {1}
for _, key in ipairs(redis.call('HKEYS', KEYS[5])) do out[#out + 1] = key end
return out
