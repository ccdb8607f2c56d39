-- Stands before the scripts about the table in force, and about claims: who fetches, and who
-- reconciles, for all.

-- Return the version in force, 0 if there is none or its table was deleted.
local function version_in_force()
  if version > 0 and call('HLEN', K.table) ~= tonumber(call('HGET', K.meta, 'accounts')) then
    call('HDEL', K.meta, 'version')
    version = 0
  end
  return version
end

local function read_claim(what)
  return read(K.meta, what) or {}
end

-- Return the claim `number` if it is not void.
local function valid(what, number)
  local claim = read_claim(what)
  if claim.number == tonumber(number) and claim.void_at and now < claim.void_at then return claim end
end

-- Give a claim back: it was done.
local function done(what, claim)
  write(K.meta, what, {number = claim.number, done_at = now})
end
