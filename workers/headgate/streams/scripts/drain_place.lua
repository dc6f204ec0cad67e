-- A branch that was taken out of its pipeline and takes what had been published by then (see drain.lua).
-- Its groups stand behind everything there is or will be, so that no plain or blocking read gets it anything, whoever was
-- in one when it was taken out. The hash `held` says, by lane, where it really is (at), up to where it goes (to), and how
-- many entries that is ('': not known); read.lua takes from there. Its retries are as ever.
local DRAINS = '18446744073709551615-0'

local function place_of_drain(prefix, lane, branch)
  return redis.call('HGET', prefix .. 'held:' .. branch, 'at:' .. lane) or nil
end

-- Entries of a lane that it has still to take (-1: more than can be counted here), and the first of them.
local function left_in(stream, prefix, lane, branch)
  local COUNTED = 10000
  local at, to, left =
    unpack(redis.call('HMGET', prefix .. 'held:' .. branch, 'at:' .. lane, 'to:' .. lane, 'left:' .. lane))
  if not at then return 0 end
  local first = redis.call('XRANGE', stream, '(' .. at, to, 'COUNT', 1)[1]
  if not first then return 0 end
  if left ~= '' then return math.max(1, tonumber(left)), first[1] end
  local count = #redis.call('XRANGE', stream, '(' .. at, to, 'COUNT', COUNTED)
  return count < COUNTED and count or -1, first[1]
end
