-- Give a claim back without success.
--
-- ARGV  9 "fetch" or "survey"   10 number   11 type of the error   12 its text   13 ms until the next try
-- Answer  nil

local what = ARGV[9]
enter()
local claim = valid(what, ARGV[10])
if claim then
  claim.void_at, claim.retry_at = nil, now + tonumber(ARGV[13])
  claim.kind, claim.text = ARGV[11], ARGV[12]
  write(META, what, claim)
end
return leave()
