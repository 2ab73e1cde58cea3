-- Stores a subscription, unless its caller has it already or has as many as it may.
-- KEYS[1] the subscriptions   KEYS[2] their version
-- ARGV[1] the caller's digest   ARGV[2] id   ARGV[3] its text   ARGV[4] the most   ARGV[5] new version
-- ARGV[6] the idempotency key it is made under, or ''
-- Returns 1 stored, 0 one too many, or the text of the one made under the same key
assert(#ARGV == 6, 'add: 6 arguments')
local own, begins = 0, ARGV[1] .. '/'

-- Whether a stored one was made under the key. One that is damaged was not.
local function is_same(text)
  local read, known = pcall(cjson.decode, text)
  return read and type(known) == 'table' and type(known.request) == 'table'
    and known.request.key == ARGV[6]
end

for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, #begins) == begins then
    own = own + 1
    if ARGV[6] ~= '' then
      local text = redis.call('HGET', KEYS[1], field)
      if is_same(text) then return text end
    end
  end
end
if own >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], begins .. ARGV[2], ARGV[3])
redis.call('SET', KEYS[2], ARGV[5])
return 1
