-- Compare-and-append: the one way this node writes to its stream.
--
-- KEYS  1 the stream   2 the cursor, a hash of `epoch` and `seq` in the same slot
-- ARGV  1 2 the epoch and seq the cursor must have now, '' for a field that must be absent
--       3 4 the epoch and seq it gets
--       5   the length the stream is trimmed to, roughly; 0 = never
--       6.. entries: the number of arguments that follow, then field, value, field, value, ...
--
-- Returns how many entries were appended, or -1 when the cursor stands elsewhere: nothing is written
-- then. Redis runs this as one step, so stream and cursor always agree, and sending it again after a
-- lost answer appends nothing twice. Positions stay text: a Lua number cannot hold every one.
local found = redis.call('HMGET', KEYS[2], 'epoch', 'seq')
if (found[1] or '') ~= ARGV[1] or (found[2] or '') ~= ARGV[2] then
  return -1
end
local at, appended = 6, 0
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, last))
  at = last + 1
  appended = appended + 1
end
-- Not as XADD MAXLEN: Redis logs that as "trim to the length it has now" with every entry, and a log
-- that is replayed wrongly (see egress.rs) would then lose the oldest entries of a short stream.
if ARGV[5] ~= '0' and redis.call('XLEN', KEYS[1]) > tonumber(ARGV[5]) then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[5])
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[3], 'seq', ARGV[4])
return appended
