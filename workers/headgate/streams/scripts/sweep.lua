#!lua flags=allow-oom
-- Trims one partition: what every branch has settled and is older than it is kept, then what exceeds the hard caps.
-- What a hard cap takes from a branch that had not settled it is counted by branch: never silent.
-- After a trim past a group's position Redis 7.0 reports a wrong lag for good, after others none; counters are set right here.
-- KEYS  1-3 the lanes   4 settings   5 stats   6 tag prefix, ending in ':'
-- ARGV  1 dead letters of a branch that are kept at most
-- Gives entries trimmed, {branch, events lost ...}, {branch, dead letters dropped ...}
--@include ids.lua
--@include groups.lua
--@include drain_place.lua
local COUNTED, ACKED, PENDING = 10000, 1000, 100000
local TRIMMED = 100000 -- at once; a hundred thousand take the server under 10 ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local branches, partitions, retention =
  unpack(redis.call('HMGET', KEYS[4], 'branches', 'partitions', 'retention'))
local keep, max_age, max_events = 0, nil, nil
if retention then
  local kept, age, events = string.match(retention, '^(%d+):(%d+):(%d+)$')
  keep, max_age, max_events = tonumber(kept), tonumber(age), math.ceil(tonumber(events) / tonumber(partitions))
end
local trimmed, lost = 0, {}

-- What a branch has settled, and where a group that is lost starts again: before the oldest it still has to settle.
local function note_position(lane, group, position)
  local field = 'settled:' .. lane .. ':' .. group
  if redis.call('HGET', KEYS[4], field) ~= position then redis.call('HSET', KEYS[4], field, position) end
end

-- What a group has to read, where the server's own figure is not to be trusted; nil where it is, or is too much to count.
-- A place before the first entry has all of them to read, one at the end none: neither needs counting. One between has read
-- all that is gone, and the first: a counter that says less is wrong.
local function unread_of(stream, group, first, length, added, last)
  if not first or before(group.last, first) then return length end
  if not before(group.last, last) then return 0 end
  if group.lag and group.lag <= length and group.read and group.read > added - length then return nil end
  local count = #redis.call('XRANGE', stream, '(' .. group.last, '+', 'COUNT', COUNTED)
  return count < COUNTED and count or nil
end

local function repair(stream, group, first, length, added, last)
  if group.drains then return end
  local unread = unread_of(stream, group, first, length, added, last)
  if not unread then return end
  group.lag = unread
  if group.read ~= added - unread then
    group.read = added - unread
    redis.call('XGROUP', 'SETID', stream, group.name, group.last, 'ENTRIESREAD', group.read)
  end
end

local function lose(branch, events)
  if events > 0 then
    lost[branch] = (lost[branch] or 0) + events
    redis.call('HINCRBY', KEYS[5], 'unread_trimmed:' .. branch, events)
  end
end

-- What a dead consumer holds of entries that are gone can be claimed by nobody; a live one settles it by itself.
local function ack_gone(stream, group, first)
  if group.pending == 0 or (first and not before(group.oldest, first)) then return end
  local gone = redis.call('XPENDING', stream, group.name, '-', first and '(' .. first or '+', ACKED)
  for _, held in ipairs(gone) do
    if not redis.call('ZSCORE', KEYS[6] .. 'beats:' .. group.name, held[2]) then
      redis.call('XACK', stream, group.name, held[1])
    end
  end
end

-- What was trimmed was before this id: further back a replay cannot go.
local function note_trimmed(lane, bound) redis.call('HSET', KEYS[4], 'trimmed:' .. lane, bound) end

-- Exact, so that the caps are what they say; where there is too much for one sweep the next goes on.
local function trim_to(stream, strategy, bound)
  local taken = redis.call('XTRIM', stream, strategy, '~', bound, 'LIMIT', TRIMMED)
  if taken > TRIMMED / 2 then return taken end
  return taken + redis.call('XTRIM', stream, strategy, '=', bound)
end

local function is_over(stream, first, aged)
  return before(first, aged) or redis.call('XLEN', stream) > max_events
end

-- Each branch's place before a hard trim: what it has not read, and whether that is known.
local function places(stream, lane, groups)
  local found = {}
  for _, group in ipairs(groups) do
    local unread = group.lag
    if not unread and not group.drains then unread = #redis.call('XRANGE', stream, '(' .. group.last, '+', 'COUNT', COUNTED) end
    found[group.name] = {last = group.last, unread = unread, is_known = group.lag or (unread and unread < COUNTED), has_group = true}
  end
  -- A branch whose group is lost will go on where it had settled everything before.
  for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
    local of, branch = string.match(field, '^settled:(%d):(.*)$')
    if tonumber(of) == lane and not found[branch] then
      found[branch] = {last = redis.call('HGET', KEYS[4], field)}
    end
  end
  return found
end

-- Takes what is too old and what is too much, and counts for each branch what it had not settled of it.
local function trim_hard(stream, lane, groups, first, last)
  local aged = string.format('%d-0', math.max(0, now - max_age))
  if not is_over(stream, first, aged) then return first end
  local open = places(stream, lane, groups)
  local old = trim_to(stream, 'MINID', aged)
  local many = trim_to(stream, 'MAXLEN', max_events)
  local length, kept_from = redis.call('XLEN', stream), first_of(stream)
  trimmed = trimmed + old + many
  note_trimmed(lane, many == 0 and aged or kept_from or last)
  for branch, place in pairs(open) do
    if not kept_from or before(place.last, kept_from) then
      -- Where a branch's place is not known, what was taken is more than it lost, never less.
      lose(branch, place.is_known and place.unread - length or old + many)
    end
    if place.has_group then
      lose(branch, #redis.call('XPENDING', stream, branch, first, kept_from and '(' .. kept_from or '+', PENDING))
    end
  end
  return kept_from
end

for lane = 1, 3 do
  local stream = KEYS[lane]
  local groups, added, length, last, first = groups_of(stream)
  local cut = keep > 0 and string.format('%d-0', math.max(0, now - keep)) or nil
  for _, group in ipairs(groups) do
    -- One that drains stands behind everything; where it is, is noted elsewhere, and how much it has to read is not known.
    if group.last == DRAINS then
      group.drains, group.lag = true, nil
      group.last = place_of_drain(KEYS[6], lane, group.name) or '0-0'
    end
    repair(stream, group, first, length, added, last)
    local settled = group.oldest or group.last
    if not cut or before(settled, cut) then cut = settled end
  end
  -- A branch without its group here has read nothing: trimming would lose its events.
  if branches and #groups > 0 and #groups >= tonumber(branches) then
    local settled = redis.call('XTRIM', stream, 'MINID', '~', cut, 'LIMIT', TRIMMED)
    trimmed = trimmed + settled
    if settled > 0 then
      note_trimmed(lane, cut)
      first = first_of(stream)
    end
  end
  if max_age and first then first = trim_hard(stream, lane, groups, first, last) end
  for _, group in ipairs(groups) do
    repair(stream, group, first, redis.call('XLEN', stream), added, last)
    ack_gone(stream, group, first)
    if branches then note_position(lane, group.name, group.oldest and id_before(group.oldest) or group.last) end
  end
end

local function flat(counts)
  local out = {}
  for name, count in pairs(counts) do
    out[#out + 1] = name
    out[#out + 1] = count
  end
  return out
end

local dropped = {}
for _, group in ipairs(redis.call('EXISTS', KEYS[2]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[2]) or {}) do
  local branch = member(group, 'name')
  local count = redis.call('XTRIM', KEYS[6] .. 'dead:' .. branch, 'MAXLEN', '=', ARGV[1])
  if count > 0 then
    dropped[branch] = count
    redis.call('HINCRBY', KEYS[5], 'dead_dropped:' .. branch, count)
  end
end
return {trimmed, flat(lost), flat(dropped)}
