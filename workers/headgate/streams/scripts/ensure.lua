#!lua flags=allow-oom
-- Makes one partition's consumer groups what the spec wants; a second call changes nothing.
-- A group on a source without any group starts at the first entry, so that nothing published before it is lost; one
-- that joins later starts where the spec says. One that was there before and is lost starts again where it had settled
-- everything before (sweep.lua notes that): events may come twice, none is left out.
-- ENTRIESREAD keeps the server's lag exact from the start. Where many entries lie behind a place, the caller counts
-- them, and calls again with what it found.
-- A branch that is no longer named goes at once, or drains first (drain.lua); named again meanwhile, it goes on where it
-- was. One that has nothing left goes when the caller says that it has nothing left anywhere.
-- The settings say to publishers and to the sweep what the spec says, so that they need no copy of it.
-- KEYS  1-3 the lanes   4 tag prefix, ending in ':'   5 settings
-- ARGV  1 number of partitions   2-5 dedupe window in ms, schema, durability, retention (empty: none)
--       6 1 when branches no longer named drain   7 1 when those that drain are paused
--       8 number of partitions there were before this one ('': it is none of those that were added just now)
--       9 number of branches, then each one's name, `now` or the ms it starts at, 1 when it is paused, 1 when ordered
--       number of branches that have drained everywhere, then their names
--       then what was counted: lane 1-3, place, entries read up to there
-- Gives {-1, the number of partitions} when there are more than the caller knows of: then nothing is changed, for it is
-- late, and would send publishers back to where their keys were. Else
-- the number of changes made, the branches that got groups, those of them that had been there, what is to be
-- counted: lane, place, last id, entries added up to there; each branch that drains with the events it has left (-1:
-- unknown); and the branches that wait here for older partitions
--@include ids.lua
--@include groups.lua
--@include drain_place.lua
--@include drain.lua
--@include grow.lua
local COUNTED = 1000
local changes, made, healed, uncounted = 0, {}, {}, {}
local wanted, starts, paused, ordered, drained, counted = {}, {}, {}, {}, {}, {}
local drains, drains_paused = ARGV[6] == '1', ARGV[7]
local at = 10 + 4 * tonumber(ARGV[9])
for i = 10, at - 1, 4 do
  wanted[#wanted + 1] = ARGV[i]
  starts[ARGV[i]] = ARGV[i + 1]
  paused[ARGV[i]] = ARGV[i + 2]
  ordered[ARGV[i]] = ARGV[i + 3] == '1'
end
for i = at + 1, at + tonumber(ARGV[at]) do drained[ARGV[i]] = true end
for i = at + 1 + tonumber(ARGV[at]), #ARGV, 3 do counted[ARGV[i] .. ' ' .. ARGV[i + 1]] = tonumber(ARGV[i + 2]) end

local known = tonumber(redis.call('HMGET', KEYS[5], 'partitions')[1] or nil)
if known and known > tonumber(ARGV[1]) then return {-1, known} end
local has_changed, grown_from = grow(KEYS, KEYS[5], tonumber(ARGV[1]), tonumber(ARGV[2]))
if has_changed then changes = changes + 1 end
for i, field in ipairs({'dedupeMs', 'schema', 'durability', 'retention'}) do
  if ARGV[1 + i] == '' then redis.call('HDEL', KEYS[5], field) else redis.call('HSET', KEYS[5], field, ARGV[1 + i]) end
end

local function settled_field(lane, branch) return 'settled:' .. lane .. ':' .. branch end

local function note_made(branch, was_there)
  changes = changes + 1
  made[branch] = true
  if was_there then healed[branch] = true end
end

-- Where a group starts, and whether it had been there before.
local function place_of(lane, branch, is_first, last)
  local settled = redis.call('HGET', KEYS[5], settled_field(lane, branch))
  local start = starts[branch]
  -- A stream whose last id is older than what was settled is another one: the first was lost.
  if settled then return before(last, settled) and '0-0' or settled, true end
  if start == 'now' then return is_first and '0-0' or last, false end
  local place = id_before(start .. '-0')
  return before(last, place) and last or place, false
end

-- Entries read by a group at that place; nil where they are too many to count here.
local function read_at(lane, place, added, length, last, first)
  if not before(place, last) then return added end
  if not first or before(place, first) then return added - length end
  if counted[lane .. ' ' .. place] then return counted[lane .. ' ' .. place] end
  local behind = #redis.call('XRANGE', KEYS[lane], '(' .. place, '+', 'COUNT', COUNTED)
  return behind < COUNTED and added - behind or nil
end

local function note_uncounted(...)
  for _, value in ipairs({...}) do uncounted[#uncounted + 1] = value end
end

local function set_paused(branch, wish)
  local held = KEYS[4] .. 'held:' .. branch
  if (redis.call('HEXISTS', held, 'paused') == 1) == (wish == '1') then return end
  if wish == '1' then redis.call('HSET', held, 'paused', 1) else redis.call('HDEL', held, 'paused') end
  changes = changes + 1
end

-- Which branches drain here, and what each has left; and which have nothing left anywhere, or need not drain.
local leaving, gone = {}, {}
for lane = 1, 3 do
  for _, group in ipairs((groups_of(KEYS[lane]))) do
    if not starts[group.name] then
      if drains then leaving[group.name] = true else gone[group.name] = true end
    end
  end
end
for branch in pairs(leaving) do
  for lane = 1, 3 do
    if begin_drain(KEYS[lane], KEYS[4], lane, branch) then changes = changes + 1 end
  end
  set_paused(branch, drains_paused)
  leaving[branch] = left_of(KEYS, KEYS[4], branch)
  if drained[branch] and leaving[branch] == 0 then leaving[branch], gone[branch] = nil, true end
end

for lane = 1, 3 do
  local groups, added, length, last, first = groups_of(KEYS[lane])
  local found = {}
  for _, group in ipairs(groups) do
    found[group.name] = true
    if gone[group.name] then
      redis.call('XGROUP', 'DESTROY', KEYS[lane], group.name)
      changes = changes + 1
    elseif starts[group.name] and group.last == DRAINS then
      -- Named again: it goes on where it was, with what was published meanwhile.
      local place = place_of_drain(KEYS[4], lane, group.name)
        or redis.call('HGET', KEYS[5], settled_field(lane, group.name)) or '0-0'
      local read = read_at(lane, place, added, length, last, first)
      if read then
        redis.call('XGROUP', 'SETID', KEYS[lane], group.name, place, 'ENTRIESREAD', read)
        end_drain(KEYS[4], lane, group.name)
        changes = changes + 1
      else
        note_uncounted(lane, place, last, added)
      end
    end
  end
  for _, branch in ipairs(wanted) do
    if not found[branch] then
      local place, was_there = place_of(lane, branch, #groups == 0, last)
      local read = read_at(lane, place, added, length, last, first)
      if read then
        redis.call('XGROUP', 'CREATE', KEYS[lane], branch, place, 'MKSTREAM', 'ENTRIESREAD', read)
        redis.call('HSET', KEYS[5], settled_field(lane, branch), place)
        note_made(branch, was_there)
      else
        note_uncounted(lane, place, last, added)
      end
    end
  end
end
for _, branch in ipairs(wanted) do
  local retry = KEYS[4] .. 'retry:' .. branch
  local groups, added, length = groups_of(retry)
  if not groups[1] then
    local was_there = redis.call('HEXISTS', KEYS[5], settled_field(1, branch)) == 1 and not made[branch]
    redis.call('XGROUP', 'CREATE', retry, branch, '0', 'MKSTREAM', 'ENTRIESREAD', added - length)
    note_made(branch, was_there)
  end
  set_paused(branch, paused[branch])
  if ARGV[8] ~= '' and ordered[branch] and made[branch] then
    redis.call('HSET', KEYS[4] .. 'held:' .. branch, 'growing', ARGV[8])
  end
  if grown_from and ordered[branch] then
    local moving = redis.call('HGET', KEYS[5], 'moving:' .. branch)
    redis.call('HSET', KEYS[5], 'moving:' .. branch, moving and moving .. ',' .. grown_from or grown_from)
  end
end

-- A branch that is no more leaves only its dead letters.
for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
  local branch = string.match(field, '^settled:%d:(.*)$')
  if branch and not starts[branch] and not leaving[branch] then gone[branch] = true end
end
for branch in pairs(gone) do
  for _, key in ipairs(redis.call('HKEYS', KEYS[4] .. 'blocked:' .. branch)) do
    redis.call('DEL', KEYS[4] .. 'parked:' .. branch .. ':' .. key)
  end
  for _, name in ipairs({'retry', 'delayed', 'gate', 'beats', 'closed', 'owner', 'blocked', 'rate', 'again', 'held'}) do
    redis.call('DEL', KEYS[4] .. name .. ':' .. branch)
  end
  for lane = 1, 3 do redis.call('HDEL', KEYS[5], settled_field(lane, branch)) end
  redis.call('HDEL', KEYS[5], 'moving:' .. branch)
  redis.call('HDEL', KEYS[4] .. 'stats', 'parked:' .. branch)
end

local function names(set)
  local out = {}
  for _, branch in ipairs(wanted) do if set[branch] then out[#out + 1] = branch end end
  return out
end

local draining, groups = {}, #wanted
for branch, left in pairs(leaving) do
  groups = groups + 1
  draining[#draining + 1] = branch
  draining[#draining + 1] = left
end
-- Nothing is trimmed where one of them has lost its group (sweep.lua).
redis.call('HSET', KEYS[5], 'branches', groups)
local growing = {}
for _, branches in ipairs({starts, leaving}) do
  for branch in pairs(branches) do
    if redis.call('HEXISTS', KEYS[4] .. 'held:' .. branch, 'growing') == 1 then growing[#growing + 1] = branch end
  end
end
return {changes, names(made), names(healed), uncounted, draining, growing}
