#!lua flags=allow-oom
-- Gives dead letters to their branch again, as first attempts: each goes to the branch's own retry stream, at once.
-- An id that is gone does nothing, so that repeating a call moves nothing twice.
-- Of an ordered branch, one whose key waits for another event goes behind that one, as in settle.lua.
-- KEYS  1 dead letters   2 retry stream   3 stats   4 blocked   5 parked prefix   6 owner (is there: ordered by key)
-- ARGV  1 group, then ids of dead letters
-- Gives how many were given again, or -1 when the branch has no group
local DROPPED = {error = true, attempts = true, origin = true, worker = true, attempt = true, again = true}

-- The event's fields without what made it a dead letter (`again`: see again.lua); its key and its id.
local function first_attempt(fields)
  local out, key, id = {'attempt', '1', 'again', '1'}, nil, ''
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'key' and value ~= '' then key = value elseif name == 'id' then id = value end
    if not DROPPED[name] then
      out[#out + 1] = name
      out[#out + 1] = value
    end
  end
  return out, key, id
end

local function packed(fields) -- the inverse of fields.lua
  local parts = {}
  for i, field in ipairs(fields) do parts[i] = #field .. ':' .. field end
  return table.concat(parts)
end

local group, moved, parked = ARGV[1], 0, 0
if redis.call('EXISTS', KEYS[2]) == 0 or #redis.call('XINFO', 'GROUPS', KEYS[2]) == 0 then return -1 end
local is_ordered = redis.call('EXISTS', KEYS[6]) == 1
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if letter then
    local fields, key, id = first_attempt(letter[2])
    local head = is_ordered and key and redis.call('HGET', KEYS[4], key)
    if head and head ~= id then
      redis.call('RPUSH', KEYS[5] .. key, packed(fields))
      parked = parked + 1
    else
      if is_ordered and key then redis.call('HSET', KEYS[4], key, id) end
      redis.call('XADD', KEYS[2], '*', unpack(fields))
    end
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
if moved > 0 then redis.call('HINCRBY', KEYS[3], 'redriven:' .. group, moved) end
if parked > 0 then redis.call('HINCRBY', KEYS[3], 'parked:' .. group, parked) end
return moved
