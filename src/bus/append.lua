-- Compare-and-append: the one way this node writes to its stream.
--
-- KEYS  1 the stream   2 the cursor, a hash of `epoch`, `seq` and `late` in the same slot   3 the dead letters
-- ARGV  1 2 3 the epoch, seq and late the cursor must have now, '' for a field that is absent
--       4 5 6 the epoch, seq and late it gets; `late` is what waits for its turn (late.rs)
--       7   the length the dead letters are trimmed to, roughly
--       8.. entries: `1` for the stream or `3` for the dead letters, the number of arguments that
--           follow, then field, value, field, value, ...
--
-- Returns how long the stream is now, or -1 when the cursor stands elsewhere: nothing is written then.
-- Redis runs this as one step, so stream, letters and cursor always agree, and sending it again after a
-- lost answer appends nothing twice. Positions stay text: a Lua number cannot hold every one.
--
-- It never trims the stream (trim.lua does): as XADD MAXLEN, Redis logs that as "trim to the length it
-- has now" with every entry, and a log that is replayed wrongly (see egress.rs) would then lose the
-- oldest entries of a short stream.
local found = redis.call('HMGET', KEYS[2], 'epoch', 'seq', 'late')
for i = 1, 3 do
  if (found[i] or '') ~= ARGV[i] then
    return -1
  end
end
-- Errors before anything is written when one of them is not a stream: Redis takes nothing back.
redis.call('XLEN', KEYS[1])
redis.call('XLEN', KEYS[3])
local at, letters = 8, 0
while at <= #ARGV do
  local key, last = tonumber(ARGV[at]), at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[key], '*', unpack(ARGV, at + 2, last))
  if key == 3 then
    letters = letters + 1
  end
  at = last + 1
end
if letters > 0 then
  redis.call('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[7])
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[4], 'seq', ARGV[5])
if ARGV[6] ~= ARGV[3] then
  redis.call('HSET', KEYS[2], 'late', ARGV[6])
end
return redis.call('XLEN', KEYS[1])
