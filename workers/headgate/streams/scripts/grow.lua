-- Partitions are added: the old ones take nothing more from publishers that do not know yet (publish.lua), and note how
-- far they had come (`bound`), so that the new ones can wait for them. `grown` tells publishers where an id may have gone
-- within the dedupe window.
local SLACK_MS = 60000

-- Gives whether the number of partitions changed here, and what it was when they are more now.
local function grow(lanes, settings, partitions, dedupe_ms)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local known = tonumber(redis.call('HGET', settings, 'partitions') or nil)
  local kept = {}
  for from, at in string.gmatch(redis.call('HGET', settings, 'grown') or '', '(%d+):(%d+)') do
    if tonumber(at) + dedupe_ms + SLACK_MS > now then kept[#kept + 1] = from .. ':' .. at end
  end
  if known and known < partitions then
    kept[#kept + 1] = known .. ':' .. now
    for lane = 1, 3 do
      local _, _, _, last = groups_of(lanes[lane])
      redis.call('HSET', settings, 'bound:' .. lane, last)
    end
  end
  redis.call('HSET', settings, 'partitions', partitions)
  if kept[1] then
    redis.call('HSET', settings, 'grown', table.concat(kept, ','))
  else
    redis.call('HDEL', settings, 'grown')
  end
  return known ~= nil and known ~= partitions, known and known < partitions and known or nil
end
