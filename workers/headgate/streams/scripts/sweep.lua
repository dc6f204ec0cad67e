#!lua flags=allow-oom
-- Housekeeping of one partition: emits joins whose time is up, and trims what every branch has settled.
-- KEYS  1-3 the lanes   4 stats   5 joins   6 joined   7 join prefix   8 settings
-- ARGV  1 joins to emit at most, then the joined branches
-- Gives the number of joins emitted and of entries trimmed
--@include join.lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keys = {stats = KEYS[4], joins = KEYS[5], joined = KEYS[6]}
local wanted = {}
for i = 2, #ARGV do wanted[i - 1] = ARGV[i] end

local emitted = 0
if #wanted > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[5], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
    emit(keys, KEYS[7], id, now, wanted)
    redis.call('HSET', KEYS[7] .. id, '#late', 1)
    redis.call('PEXPIRE', KEYS[7] .. id, LATE_KEPT_MS)
    emitted = emitted + 1
  end
end

local function before(a, b) -- stream ids in order: milliseconds, then sequence
  local am, as = string.match(a, '^(%d+)-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)-(%d+)$')
  am, bm = tonumber(am), tonumber(bm)
  return am < bm or (am == bm and tonumber(as) < tonumber(bs))
end

local branches, trimmed = tonumber(redis.call('HGET', KEYS[8], 'branches')), 0
for lane = 1, 3 do
  if redis.call('EXISTS', KEYS[lane]) == 1 then
    local groups, cut = redis.call('XINFO', 'GROUPS', KEYS[lane]), nil
    for _, info in ipairs(groups) do
      local settled
      for i = 1, #info, 2 do if info[i] == 'last-delivered-id' then settled = info[i + 1] end end
      local pending = redis.call('XPENDING', KEYS[lane], info[2])
      if pending[1] > 0 then settled = pending[2] end
      if not cut or before(settled, cut) then cut = settled end
    end
    -- A branch without its group here has read nothing: trimming would lose its events.
    if cut and branches and #groups >= branches then
      trimmed = trimmed + redis.call('XTRIM', KEYS[lane], 'MINID', '~', cut)
    end
  end
end
return {emitted, trimmed}
