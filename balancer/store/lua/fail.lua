-- Give a claim back without success.
--
-- ARGV  10 "fetch" or "survey"   11 number   12 type of the error   13 its text   14 ms until the next try
-- Answer  nil

local what = ARGV[10]
enter()
local claim = valid(what, ARGV[11])
if claim then
  claim.void_at, claim.retry_at = nil, now + tonumber(ARGV[14])
  claim.kind, claim.text = ARGV[12], ARGV[13]
  write(META, what, claim)
end
return leave()
