-- What a branch had settled before and is given again, by a replay or redrive: the record of its join was made then.
-- A hash a branch: by lane the last entry that a replay gives again; by lane:entry those of them that were not settled
-- when it began and are not yet. In the retry stream it is the field `again` that says so.
--@include ids.lua
local AGAIN_PACKED = '5:again1:1' -- the field, as fields.lua reads it

-- Whether this branch had settled the entry before. Asked when it is settled: from then on it had.
local function is_again(marks, streams, stream, entry)
  if stream == 4 then
    local found = redis.call('XRANGE', streams[4], entry, entry)[1]
    for i = 1, found and #found[2] or 0, 2 do if found[2][i] == 'again' then return true end end
    return false
  end
  local last = redis.call('HGET', marks, stream)
  return last and not before(last, entry) and redis.call('HDEL', marks, stream .. ':' .. entry) == 0
end
