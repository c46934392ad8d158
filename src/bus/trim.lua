-- Trims the stream to its length, but never what a group of readers has not read.
--
-- KEYS  1 the stream
-- ARGV  1 the length it is trimmed to, roughly
--       2.. groups that are not waited for
--
-- Returns the groups that have read less than would have to go.
local length, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[1])
if length <= most then
  return {}
end
-- In steps: what is read here costs Redis time, and everybody else waits meanwhile.
local step = math.min(length - most, 1000)
local wanted, behind, ignored = step, {}, {}
for at = 2, #ARGV do
  ignored[ARGV[at]] = true
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = {}
  for at = 1, #group, 2 do
    of[group[at]] = group[at + 1]
  end
  local name, id = of['name'], of['last-delivered-id']
  local lag = of['lag']
  -- The lag of Redis 7 is never too small; it may be too large, and older ones tell none.
  if not ignored[name] and not (lag and length - lag >= wanted) then
    local read = #redis.call('XRANGE', KEYS[1], '-', id, 'COUNT', wanted)
    if read < wanted then
      behind[#behind + 1] = name
      step = math.min(step, read)
    end
  end
end
if step > 0 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', length - step)
end
return behind
