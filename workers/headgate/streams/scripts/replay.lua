#!lua flags=allow-oom
-- Puts a branch back in one partition's lanes, so that it is given again what came after; never forward.
-- What is being handled now is given out once more too; whichever of the two settles first counts.
-- KEYS  1-3 the lanes   4 settings   5 again (again.lua)
-- ARGV  1 group, then for each lane: the place ('': leave it), entries read by a group there
-- Gives how many lanes were put back, or -1 when the branch has no group
--@include ids.lua
--@include groups.lua
--@include drain_place.lua
local HELD = 100000

-- Everything up to the group's place was settled, or is in its retries, but for what is pending now.
local function note_again(lane, group, last)
  local marked, held = redis.call('HGET', KEYS[5], lane), {}
  for _, pending in ipairs(redis.call('XPENDING', KEYS[lane], group, '-', '+', HELD)) do
    local field = lane .. ':' .. pending[1]
    -- Pending from a replay before this one, it had been settled.
    local was_settled = marked and not before(marked, pending[1]) and redis.call('HEXISTS', KEYS[5], field) == 0
    if not was_settled then held[#held + 1] = field end
  end
  for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
    if string.sub(field, 1, 2) == lane .. ':' then redis.call('HDEL', KEYS[5], field) end
  end
  for _, field in ipairs(held) do redis.call('HSET', KEYS[5], field, '') end
  redis.call('HSET', KEYS[5], lane, marked and before(last, marked) and marked or last)
end

local group, moved, found = ARGV[1], 0, {}
for lane = 1, 3 do
  local groups, added, length, _, first = groups_of(KEYS[lane])
  for _, each in ipairs(groups) do
    if each.name == group and each.last ~= DRAINS then found[lane] = {last = each.last, first = first, trimmed = added - length} end
  end
  if not found[lane] then return -1 end
end
for lane = 1, 3 do
  local at, place, read = found[lane], ARGV[2 * lane], ARGV[2 * lane + 1]
  local field = 'settled:' .. lane .. ':' .. group
  if place ~= '' and before(place, at.last) then
    -- What was counted may have been trimmed meanwhile.
    if not at.first or before(place, at.first) then read = at.trimmed end
    note_again(lane, group, at.last)
    redis.call('XGROUP', 'SETID', KEYS[lane], group, place, 'ENTRIESREAD', read)
    -- Should the group get lost before the next sweep, it must not start again later than here.
    local settled = redis.call('HGET', KEYS[4], field)
    if not settled or before(place, settled) then redis.call('HSET', KEYS[4], field, place) end
    moved = moved + 1
  end
end
return moved
