#!lua flags=no-writes
-- Measures one partition for all branches, without writing: backlog by lane, oldest age, who holds what, counters.
-- XINFO's lag is nil where the server cannot know it; then the entries are counted, up to a bound, and beyond the
-- bound the answer is -1: unknown. Nil is not zero.
-- KEYS  1-3 the lanes   4 tag prefix, ending in ':'
-- ARGV  the branches
-- Gives now in ms, published, open joins, length of the outbox, counters (name, value ...), last ids of the lanes, then for each branch:
--   {undelivered, pending, oldest ms} for each lane and for the retry stream, delayed, dead letters, gate
--   (or `closed`), and holders (consumer, pending ...)
local COUNTED = 10000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local prefix = KEYS[4]

local function member(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end

--@include drain_place.lua
local function oldest(id) return tonumber(string.match(id, '^%d+')) end

-- Per stream: its groups by name, with undelivered and pending
local function groups_of(stream)
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found, 0, '0-0', 0 end
  local whole = redis.call('XINFO', 'STREAM', stream)
  local length = member(whole, 'length')
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    found[info[2]] = info
  end
  return found, member(whole, 'entries-added') or length, member(whole, 'last-generated-id'), length
end

local function figures(stream, info, length, branch, holders, lane)
  if not info then return {-1, 0, 0} end
  local last, pending, lag = member(info, 'last-delivered-id'), member(info, 'pending'), member(info, 'lag')
  local since = 0
  local unread
  if last == DRAINS then
    lag, unread = left_in(stream, prefix, lane, branch)
  elseif type(lag) ~= 'number' then
    lag = #redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', COUNTED)
    if lag == COUNTED then lag = -1 end
  elseif lag > length then
    lag = length
  end
  if lag ~= 0 then
    if not unread then
      local first = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
      unread = first and first[1]
    end
    if unread then since = oldest(unread) else lag = 0 end
  end
  if pending > 0 then
    local summary = redis.call('XPENDING', stream, branch)
    local at = oldest(summary[2])
    if since == 0 or at < since then since = at end
    for _, holder in ipairs(summary[4]) do
      holders[#holders + 1] = holder[1]
      holders[#holders + 1] = tonumber(holder[2])
    end
  end
  return {lag, pending, since}
end

local lanes, published, lasts = {}, 0, {}
for lane = 1, 3 do
  local found, added, last, length = groups_of(KEYS[lane])
  lanes[lane] = {found, length}
  published = published + added
  lasts[lane] = last
end

local out = {
  now, published, redis.call('ZCARD', prefix .. 'joins'), redis.call('XLEN', prefix .. 'outbox'),
  redis.call('HGETALL', prefix .. 'stats'), lasts,
}
for _, branch in ipairs(ARGV) do
  local holders, streams = {}, {}
  for lane = 1, 3 do
    streams[lane] = figures(KEYS[lane], lanes[lane][1][branch], lanes[lane][2], branch, holders, lane)
  end
  local retry = prefix .. 'retry:' .. branch
  local found, _, _, length = groups_of(retry)
  streams[4] = figures(retry, found[branch], length, branch, holders)
  out[#out + 1] = {
    streams, redis.call('ZCARD', prefix .. 'delayed:' .. branch), redis.call('XLEN', prefix .. 'dead:' .. branch),
    redis.call('EXISTS', prefix .. 'closed:' .. branch) == 1 and 'closed' or redis.call('GET', prefix .. 'gate:' .. branch) or '',
    holders,
  }
end
return out
