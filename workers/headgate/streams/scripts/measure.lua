#!lua flags=no-writes
-- Measures one partition for all branches, without writing: backlog by lane, oldest age, who holds what, counters.
-- XINFO's lag is nil where the server cannot know it, and after a trim past a group's place it is too high for good on
-- Redis 7.0; then the entries are counted, up to a bound. Beyond it the answer is unknown, with what there is at least: -1
-- less that number. Nil is not zero.
-- KEYS  1-3 the lanes   4 tag prefix, ending in ':'
-- ARGV  the branches
-- Gives now in ms, published, open joins, length of the outbox, counters (name, value ...), last ids of the lanes, then for each branch:
--   {undelivered (below zero: unknown, at least -1 less that), pending, oldest ms} for each lane and for the retry stream,
--   delayed, dead letters, gate (or `closed`), and holders (consumer, pending ...)
local COUNTED = 10000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local prefix = KEYS[4]

local function member(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end

--@include ids.lua
--@include drain_place.lua
local function oldest(id) return tonumber(string.match(id, '^%d+')) end

-- A stream: its groups by name, entries ever added, last id ever, length, first entry's id (nil: empty)
local function stream_of(stream)
  local about = {groups = {}, added = 0, last = '0-0', length = 0}
  if redis.call('EXISTS', stream) == 0 then return about end
  local whole = redis.call('XINFO', 'STREAM', stream)
  about.length, about.last = member(whole, 'length'), member(whole, 'last-generated-id')
  about.added = member(whole, 'entries-added') or about.length
  local first = member(whole, 'first-entry')
  about.first = first and first[1]
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    about.groups[info[2]] = info
  end
  return about
end

-- What a group has not read.
local function unread_of(stream, about, info, last)
  if not about.first or before(last, about.first) then return about.length end
  local lag, read = member(info, 'lag'), member(info, 'entries-read')
  local is_known = type(lag) == 'number'
  -- It has read past the first entry: then all that is gone, and that one. A counter that says less is wrong.
  if is_known and lag <= about.length and read and read > about.added - about.length then return lag end
  local count = #redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', COUNTED)
  if count < COUNTED then return count end
  return is_known and math.min(lag, about.length) or -1 - COUNTED
end

local function figures(stream, about, branch, holders, lane)
  local info = about.groups[branch]
  if not info then return {-1, 0, 0} end
  local last, pending = member(info, 'last-delivered-id'), member(info, 'pending')
  local since = 0
  local lag, unread
  if last == DRAINS then
    lag, unread = left_in(stream, prefix, lane, branch)
    if lag < 0 and unread then lag = -2 end
  else
    lag = unread_of(stream, about, info, last)
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
  lanes[lane] = stream_of(KEYS[lane])
  published = published + lanes[lane].added
  lasts[lane] = lanes[lane].last
end

local out = {
  now, published, redis.call('ZCARD', prefix .. 'joins'), redis.call('XLEN', prefix .. 'outbox'),
  redis.call('HGETALL', prefix .. 'stats'), lasts,
}
for _, branch in ipairs(ARGV) do
  local holders, streams = {}, {}
  for lane = 1, 3 do
    streams[lane] = figures(KEYS[lane], lanes[lane], branch, holders, lane)
  end
  local retry = prefix .. 'retry:' .. branch
  streams[4] = figures(retry, stream_of(retry), branch, holders)
  out[#out + 1] = {
    streams, redis.call('ZCARD', prefix .. 'delayed:' .. branch), redis.call('XLEN', prefix .. 'dead:' .. branch),
    redis.call('EXISTS', prefix .. 'closed:' .. branch) == 1 and 'closed' or redis.call('GET', prefix .. 'gate:' .. branch) or '',
    holders,
  }
end
return out
