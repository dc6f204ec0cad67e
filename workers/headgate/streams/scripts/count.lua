#!lua flags=no-writes
-- Counts a stream's entries between two ids, in pages: reading an entry costs some microseconds wherever it is done.
-- KEYS  1 the stream
-- ARGV  1 id to count after   2 last id to count   3 how many at most
-- Gives how many there are, the id of the last one counted
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
return {#entries, #entries > 0 and entries[#entries][1] or ARGV[1]}
