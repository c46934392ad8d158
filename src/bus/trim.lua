-- Trims the stream to its length, but never what a group of readers has not read.
--
-- KEYS  1 the stream
-- ARGV  1 the length it is trimmed to, roughly
--       2.. pairs: a group that is not waited for as long as it stands at this id
--
-- Returns nothing, or the group that has read least and the id it stands at, when more would have to
-- go than it has read.
local length, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[1])
if length <= most then
  return {}
end
-- In steps: what is read here costs Redis time, and everybody else waits meanwhile.
local step = math.min(length - most, 1000)
local slowest, stands
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = {}
  for at = 1, #group, 2 do
    of[group[at]] = group[at + 1]
  end
  local name, id = of['name'], of['last-delivered-id']
  local waited_for = true
  for at = 2, #ARGV, 2 do
    waited_for = waited_for and not (ARGV[at] == name and ARGV[at + 1] == id)
  end
  local lag = of['lag']
  -- The lag of Redis 7 is never too small; it may be too large, and older ones tell none.
  if waited_for and not (lag and length - lag >= step) then
    local read = #redis.call('XRANGE', KEYS[1], '-', id, 'COUNT', step)
    if read < step then
      step, slowest, stands = read, name, id
    end
  end
end
if step > 0 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', length - step)
end
if slowest then
  return { slowest, stands }
end
return {}
