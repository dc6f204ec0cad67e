#!lua flags=allow-oom
-- Joins of one partition whose time is up: each becomes a record of what is there, or a dead letter of the join.
-- KEYS  1 stats   2 joins   3 joined   4 join prefix   5 outbox   6 dead letters of the join
-- ARGV  1 how many at most   2 1 when they are to be dead letters   3 results a join needs (0: all)
--       4 pipeline that gets the records ('': none), then the joined branches
-- Gives their number
--@include join.lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local join = {
  stats = KEYS[1], joins = KEYS[2], joined = KEYS[3], prefix = KEYS[4], outbox = KEYS[5],
  needed = tonumber(ARGV[3]), output = ARGV[4], wanted = {unpack(ARGV, 5)},
}
local expired = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, root in ipairs(expired) do
  local found = load(join.prefix .. root)
  emit(join, root, found, false, now, ARGV[2] == '1' and KEYS[6] or nil)
  leave_late(join, root, found)
end
return #expired
