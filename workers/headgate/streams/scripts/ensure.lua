#!lua flags=allow-oom
-- Makes one partition's consumer groups what the spec wants; a second call changes nothing.
-- A group on a source without any group starts at the first entry, so that nothing published before it is lost;
-- a branch that joins later starts at the newest. ENTRIESREAD keeps the server's lag exact from the start.
-- The settings say to publishers and to the sweep what the spec says, so that they need no copy of it.
-- KEYS  1-3 the lanes   4 tag prefix, ending in ':'   5 settings
-- ARGV  1 number of partitions   2-5 dedupe window in ms, schema, durability, retention (empty: none)
--       then the branches: name, `now` or the ms it starts at
-- Gives the number of groups created and destroyed, the branches that got groups
local changes, made = 0, {}
local wanted, branches = {}, {}
for i = 6, #ARGV, 2 do
  branches[#branches + 1] = ARGV[i]
  wanted[ARGV[i]] = true
end
redis.call('HSET', KEYS[5], 'partitions', ARGV[1], 'branches', #branches)
for i, field in ipairs({'dedupeMs', 'schema', 'durability', 'retention'}) do
  if ARGV[1 + i] == '' then redis.call('HDEL', KEYS[5], field) else redis.call('HSET', KEYS[5], field, ARGV[1 + i]) end
end

local function groups_of(stream)
  local found, count = {}, 0
  if redis.call('EXISTS', stream) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      found[info[2]] = true
      count = count + 1
    end
  end
  return found, count
end

for lane = 1, 3 do
  local found, count = groups_of(KEYS[lane])
  for _, branch in ipairs(branches) do
    if not found[branch] then
      if count == 0 then
        redis.call('XGROUP', 'CREATE', KEYS[lane], branch, '0', 'MKSTREAM', 'ENTRIESREAD', 0)
      else
        local info, added = redis.call('XINFO', 'STREAM', KEYS[lane]), 0
        for i = 1, #info, 2 do if info[i] == 'entries-added' then added = info[i + 1] end end
        redis.call('XGROUP', 'CREATE', KEYS[lane], branch, '$', 'ENTRIESREAD', added)
      end
      changes = changes + 1
      made[#made + 1] = branch
    end
  end
  for group in pairs(found) do
    if not wanted[group] then
      redis.call('XGROUP', 'DESTROY', KEYS[lane], group)
      redis.call('DEL', KEYS[4] .. 'retry:' .. group, KEYS[4] .. 'delayed:' .. group,
        KEYS[4] .. 'gate:' .. group, KEYS[4] .. 'beats:' .. group, KEYS[4] .. 'closed:' .. group)
      changes = changes + 1
    end
  end
end
for _, branch in ipairs(branches) do
  local retry = KEYS[4] .. 'retry:' .. branch
  if not groups_of(retry)[branch] then
    redis.call('XGROUP', 'CREATE', retry, branch, '0', 'MKSTREAM', 'ENTRIESREAD', 0)
    changes = changes + 1
    made[#made + 1] = branch
  end
end
return {changes, made}
