-- Put into effect what the server's list means, and give the claim back.
--
-- ARGV  6 number of the claim   7 JSON object {external = {id = jobs}, bind = {{key, job}},
--       prolong = {key}, reclaim = {key}, resolve = {key}, missed = {{key, lists}},
--       listed = {job of others = 1}}
-- Answer  the keys that ended, or nil if nothing was done

local ended = {}

local function set_external(external, listed)
  local old = read(K.meta, 'external') or {}
  for id in pairs(external) do old[id] = old[id] or 0 end
  for id in pairs(old) do
    local account = read(K.accounts, id)
    if account then
      account.external = external[id] or 0
      write(K.accounts, id, account)
      refile(id, account)
    end
  end
  write(K.meta, 'external', external)
  write(K.meta, 'listed', listed)
end

local function each(keys, state, act)
  for _, key in ipairs(keys) do
    local row = read(K.rows, key)
    if row and row.state == state then act(key, row) end
  end
end

local function over(key, row)
  ended[#ended + 1] = key
  remember(K.tombs, key, MOST_TOMBS)
  end_row(key, row)
end

local function prolong(key, row)
  if row.ends < now + JOB_TTL then set_end(key, row, now + JOB_TTL) end
  write(K.rows, key, row)
end

enter()
local claim = valid('survey', ARGV[6])
if not claim then return leave() end
local plan = cjson.decode(ARGV[7])
set_external(plan.external, plan.listed)
for _, pair in ipairs(plan.bind) do
  each({pair[1]}, 'ambiguous', function(key, row)
    if bind(key, row, {pair[2]}, now + JOB_TTL) == 'over' then ended[#ended + 1] = key end
  end)
end
each(plan.prolong, 'bound', prolong)
for _, pair in ipairs(plan.missed) do
  each({pair[1]}, 'bound', function(key, row)
    row.missed = pair[2]
    write(K.rows, key, row)
  end)
end
each(plan.reclaim, 'bound', over)
each(plan.resolve, 'ambiguous', over)
done('survey', claim)
return leave(ended)
