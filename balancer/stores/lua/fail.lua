-- Give a claim back without success.
--
-- ARGV  6 "fetch" or "survey"   7 number   8 type of the error   9 its text   10 ms until the next try
-- Answer  nil

local what = ARGV[6]
enter()
local claim = valid(what, ARGV[7])
if claim then
  claim.void_at, claim.retry_at = nil, now + tonumber(ARGV[10])
  claim.kind, claim.text = ARGV[8], ARGV[9]
  write(K.meta, what, claim)
end
return leave()
