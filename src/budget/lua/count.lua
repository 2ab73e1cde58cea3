-- Counts calls in a day, or takes them back (a number below zero).
-- ARGV     1 now  2 late  3 day  4 month  5 for how long the day is kept  6 calls  7 the most ('' for
--          any)
-- Returns  {whether they were counted, standing}
assert(#KEYS == 3 and #ARGV == 7, 'count: wrong arity')
local day, calls, most = ARGV[3], tonumber(ARGV[6]), tonumber(ARGV[7])
free(tonumber(ARGV[1]), tonumber(ARGV[2]))
local _, _, counted = read(day)
if calls > 0 and most and counted + calls > most then
  return { 0, standing(day, ARGV[4]) }
end
if counted + calls < 0 then calls = -counted end
if calls ~= 0 then
  redis.call('HINCRBY', base .. day, 'c', string.format('%.0f', calls))
  redis.call('PEXPIRE', base .. day, ARGV[5])
end
return { 1, standing(day, ARGV[4]) }
