-- Effects of a handler, applied in the script that settles its event; needs fields.lua. Keys are those of settle.lua.
-- An effect is a name and three values:
--   'count' name, n, ''        'put' key, value, ''
--   'place' pipeline, 'put' or 'drop', packed: this partition's number, key, value ('': drop), then the partitions the key
--           belonged to while they were added, and where it belongs now: for the last of them that is open
--   'emit' lane 1-3, event id, packed fields: into this partition, once within the dedupe window
--   'split' lane 1-3, event id, packed fields: a part of the event, in the same partition as the join of its root
--   'out' pipeline, kind, packed (streams/relay.py): for another slot, through the outbox

-- Scripts have no rollback: what could refuse a write in the middle of an outcome is looked at before it.
local function check_effect_keys(keys)
  for number, wanted in pairs({[12] = 'hash', [13] = 'hash', [14] = 'stream'}) do
    local found = redis.call('TYPE', keys[number]).ok
    if found ~= 'none' and found ~= wanted then
      error({err = 'WRONGTYPE ' .. keys[number] .. ' is a ' .. found .. ' and not a ' .. wanted .. ': remove it'})
    end
  end
end

local function send(outbox, pipeline, kind, parts)
  for i, part in ipairs(parts) do parts[i] = #part .. ':' .. part end
  redis.call('XADD', outbox, '*', 'to', pipeline, 'kind', kind, 'packed', table.concat(parts))
end

-- While an ordered branch's new partitions wait (`moving`, ensure.lua), the events of a key that moves there are on its
-- old one, and so is its value: what the next of them reads must be there with this settle, and nothing may come to the
-- new place from an outbox after that has opened. Gives the number of entries for the outbox.
local function place_value(keys, group, pipeline, kind, packed)
  local parts = unpack_fields(packed)
  local own, key, value = parts[1], parts[2], parts[3]
  local moving = redis.call('HGET', keys[15], 'moving:' .. group)
  local open = moving and tonumber(string.match(moving, '^%d+'))
  local places = {}
  for i = 4, #parts do
    if not open or tonumber(parts[i]) < open then places[#places + 1] = parts[i] end
  end
  local place = table.remove(places)
  if kind == 'put' then
    if place ~= own then
      send(keys[14], pipeline, 'put', {place, key, value})
      return 1
    end
    redis.call('HSET', keys[13], key, value)
    return 0
  end
  -- It goes from the places before as well, where a value may have stayed. Until then a null hides those, and goes last.
  local hides = place == own and places[1]
  if hides then redis.call('HSET', keys[13], key, 'null') else redis.call('HDEL', keys[13], key) end
  places[#places + 1] = place
  local sent = 0
  for _, each in ipairs(places) do
    if each ~= own then
      send(keys[14], pipeline, 'drop', {each, key})
      sent = sent + 1
    end
  end
  if hides then
    send(keys[14], pipeline, 'drop', {own, key, 'null'})
    sent = sent + 1
  end
  return sent
end

-- Gives the number of parts split off, and of entries for the outbox.
local function apply_effect(keys, group, name, first, second, third)
  if name == 'count' then
    -- A counter at its end stays there: an error here would leave the event half settled.
    redis.pcall('HINCRBY', keys[12], first, second)
  elseif name == 'put' then
    redis.call('HSET', keys[13], first, second)
  elseif name == 'place' then
    return 0, place_value(keys, group, first, second, third)
  elseif name == 'emit' then
    local window = tonumber(redis.call('HGET', keys[15], 'dedupeMs')) or 0
    local mark = keys[16] .. second
    if window == 0 or redis.call('EXISTS', mark) == 0 then
      local entry = redis.call('XADD', keys[tonumber(first)], '*', unpack(unpack_fields(third)))
      if window > 0 then redis.call('SET', mark, entry, 'PX', window) end
    end
  elseif name == 'split' then
    redis.call('XADD', keys[tonumber(first)], '*', unpack(unpack_fields(third)))
    return 1, 0
  else
    redis.call('XADD', keys[14], '*', 'to', first, 'kind', second, 'packed', third)
    return 0, 1
  end
  return 0, 0
end
