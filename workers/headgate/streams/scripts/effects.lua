-- Effects of a handler, applied in the script that settles its event; needs fields.lua. Keys are those of settle.lua.
-- An effect is a name and three values:
--   'count' name, n, ''        'put' key, value, ''        'drop' key, '', ''
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

-- Gives the number of parts split off, and of entries for the outbox.
local function apply_effect(keys, name, first, second, third)
  if name == 'count' then
    -- A counter at its end stays there: an error here would leave the event half settled.
    redis.pcall('HINCRBY', keys[12], first, second)
  elseif name == 'put' then
    redis.call('HSET', keys[13], first, second)
  elseif name == 'drop' then
    redis.call('HDEL', keys[13], first)
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
