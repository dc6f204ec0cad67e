-- Draining a branch, its beginning and its end (with groups.lua, drain_place.lua).

-- Gives whether it began now: from here on nothing that is published is for this branch.
local function begin_drain(stream, prefix, lane, branch)
  local groups, _, _, last = groups_of(stream)
  for _, group in ipairs(groups) do
    if group.name == branch and group.last ~= DRAINS then
      redis.call('HSET', prefix .. 'held:' .. branch,
        'at:' .. lane, group.last, 'to:' .. lane, last, 'left:' .. lane, group.lag or '')
      redis.call('XGROUP', 'SETID', stream, branch, DRAINS)
      return true
    end
  end
  return false
end

local function end_drain(prefix, lane, branch)
  redis.call('HDEL', prefix .. 'held:' .. branch, 'at:' .. lane, 'to:' .. lane, 'left:' .. lane)
end

-- All that it has to settle: not taken yet, pending, to be tried again, waiting behind its key.
local function left_of(lanes, prefix, branch)
  local left = redis.call('ZCARD', prefix .. 'delayed:' .. branch)
  left = left + tonumber(redis.call('HGET', prefix .. 'stats', 'parked:' .. branch) or 0)
  for lane = 1, 4 do
    local stream = lane < 4 and lanes[lane] or prefix .. 'retry:' .. branch
    if lane == 4 then
      left = left + redis.call('XLEN', stream)
    else
      for _, group in ipairs((groups_of(stream))) do
        if group.name == branch then left = left + group.pending end
      end
      local unread = left_in(stream, prefix, lane, branch)
      if unread < 0 then return -1 end
      left = left + unread
    end
  end
  return left
end
