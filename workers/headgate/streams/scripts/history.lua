#!lua flags=no-writes
-- Tells how far one partition's history reaches, and where a branch is in it.
-- KEYS  1-3 the lanes   4 settings
-- ARGV  1 group
-- Gives now in ms, then for each lane: 1 when the group is there, last id it was given, entries it has not been given
-- (-1: not known), last id ever, entries ever added, length, the id that all trimmed entries were before ('': none was)
--@include ids.lua
--@include groups.lua
--@include drain_place.lua
local time = redis.call('TIME')
local out = {time[1] * 1000 + math.floor(time[2] / 1000)}
for lane = 1, 3 do
  local groups, added, length, last, first = groups_of(KEYS[lane])
  local trimmed = ''
  if added > length then trimmed = redis.call('HGET', KEYS[4], 'trimmed:' .. lane) or first or last end
  local place = {0, '0-0', -1, last, added, length, trimmed}
  for _, group in ipairs(groups) do
    if group.name == ARGV[1] and group.last ~= DRAINS then
      place[1], place[2] = 1, group.last
      -- A place before the first entry has all of them before it, whatever the counter says.
      if not first or before(group.last, first) then place[3] = length elseif group.lag then place[3] = group.lag end
    end
  end
  out[1 + lane] = place
end
return out
