-- Say that the owner lives.
--
-- ARGV  none of its own
-- Answer  {1 if it was known and nothing of it was forgotten until its next Register, keys of its leases that others ended}

local me, known = enter(true)
local ended = me.ended or {}
if me.ended or not known then
  me.ended, me.forgotten = nil, me.forgotten or not known or nil
  write(K.owners, OWNER, me)
end
return leave({me.forgotten and 0 or 1, ended})
