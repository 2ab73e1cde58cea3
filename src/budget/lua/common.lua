-- What the scripts below share. KEYS[1] is what the keys of a caller's days and months begin with,
-- KEYS[2] its reservations (`cost:day:month`), KEYS[3] the same by when they come free.
local base, holds, terms = KEYS[1], KEYS[2], KEYS[3]
local AT_ONCE = 100

local function read(window)
  local found = redis.call('HMGET', base .. window, 's', 'h', 'c')
  return tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0)
end

-- A period that is forgotten is not begun again.
local function add(window, field, amount)
  if redis.call('EXISTS', base .. window) == 1 then
    redis.call('HINCRBY', base .. window, field, amount)
  end
end

-- `-0` is no number to Redis.
local function release(window, cost)
  if cost ~= '0' then add(window, 'h', '-' .. cost) end
end

local function split(hold)
  return string.match(hold or '', '^(%d+):(%d+):(%d+)$')
end

-- Frees what vanished holders have set aside. Its name is kept for a while, for a late settling.
local function free(now, late)
  local over = redis.call('ZRANGEBYSCORE', terms, '-inf', now, 'LIMIT', 0, AT_ONCE)
  for _, id in ipairs(over) do
    local cost, day, month = split(redis.call('HGET', holds, id))
    if cost and cost ~= '0' then
      release(day, cost)
      release(month, cost)
      redis.call('HSET', holds, id, '0:' .. day .. ':' .. month)
      redis.call('ZADD', terms, string.format('%.0f', now + late), id)
    else
      redis.call('HDEL', holds, id)
      redis.call('ZREM', terms, id)
    end
  end
end

local function standing(day, month)
  local spent, held, calls = read(day)
  local month_spent, month_held = read(month)
  local told = { spent, held, calls, month_spent, month_held }
  for index, value in ipairs(told) do told[index] = string.format('%.0f', value) end
  return told
end
