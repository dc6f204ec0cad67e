-- A stream's groups and bounds, for the scripts that move groups and trim (with ids.lua).
local LAST_SEQUENCE = '18446744073709551615'

local function member(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end

-- The groups, each {name, last, read, lag (nil: unknown), pending, oldest pending id}; entries ever added; length;
-- last id ever; first entry's id (nil: empty).
local function groups_of(stream)
  local groups = {}
  if redis.call('EXISTS', stream) == 0 then return groups, 0, 0, '0-0', nil end
  local whole = redis.call('XINFO', 'STREAM', stream)
  for i, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {
      name = member(info, 'name'), last = member(info, 'last-delivered-id'), read = member(info, 'entries-read'),
      lag = member(info, 'lag') or nil, pending = member(info, 'pending'),
    }
    if group.pending > 0 then group.oldest = redis.call('XPENDING', stream, group.name)[2] end
    groups[i] = group
  end
  local length, first = member(whole, 'length'), member(whole, 'first-entry')
  return groups, member(whole, 'entries-added') or length, length, member(whole, 'last-generated-id'), first and first[1]
end

local function first_of(stream)
  local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
  return entries[1] and entries[1][1]
end

-- The greatest id before one.
local function id_before(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  if tonumber(sequence) > 0 then return ms .. '-' .. string.format('%d', tonumber(sequence) - 1) end
  if tonumber(ms) > 0 then return string.format('%d', tonumber(ms) - 1) .. '-' .. LAST_SEQUENCE end
  return '0-0'
end
