-- Sets money aside in a day and a month, or in neither.
-- ARGV     1 now  2 late  3 day  4 month  5 and 6 for how long each is kept  7 id  8 cost
--          9 and 10 the most for each ('' for any)  11 until when it is held  12 for how long
--          reservations are kept
-- Returns  {refused by (0 nothing, 1 the day, 2 the month), standing}; times in milliseconds
assert(#KEYS == 3 and #ARGV == 12, 'reserve: wrong arity')
local now, late, day, month = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local cost = tonumber(ARGV[8])
free(now, late)
for index, window in ipairs({ day, month }) do
  local most = tonumber(ARGV[8 + index])
  local spent, held = read(window)
  if most and spent + held + cost > most then
    return { index, standing(day, month) }
  end
end
for index, window in ipairs({ day, month }) do
  redis.call('HINCRBY', base .. window, 'h', ARGV[8])
  redis.call('PEXPIRE', base .. window, ARGV[4 + index])
end
redis.call('HSET', holds, ARGV[7], ARGV[8] .. ':' .. day .. ':' .. month)
redis.call('ZADD', terms, ARGV[11], ARGV[7])
redis.call('PEXPIRE', holds, ARGV[12])
redis.call('PEXPIRE', terms, ARGV[12])
return { 0, standing(day, month) }
