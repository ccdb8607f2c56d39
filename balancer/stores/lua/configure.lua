-- What a new table changes.

local function put(id, capacity, broken, external)
  local account = read(K.accounts, id) or {external = external[id] or 0}
  local healed = account.broken and not broken
  if healed or account.capacity ~= capacity then
    account.limit = nil
    retime(id, account)
  end
  if healed then
    for _, cooldown in ipairs(account.cooldowns or {}) do
      cooldown.cooling = nil
      call('ZREM', K.timers, cooldown_name(id, cooldown.scope))
    end
  end
  account.capacity, account.broken, account.draining = capacity, broken or nil, nil
  write(K.accounts, id, account)
  refile(id, account)
end

local function remove(id)
  local account = read(K.accounts, id)
  if account then
    account.draining = call('HGET', K.table, id) or account.draining or '{}'
    write(K.accounts, id, account)
    refile(id, account)
  end
  call('HDEL', K.table, id)
end

-- Put a table in force, and give the claim back.
-- `base` is the version that the changes are from, `changed` has {id, capacity, broken, description} of each
-- account that is new or different.
-- Answer  the version in force, or nil if nothing was done
local function configure(number, base, changed, gone)
  enter()
  local claim = valid('fetch', number)
  if not claim or base ~= version_in_force() then return leave() end
  local external = read(K.meta, 'external') or {}
  local named = {[''] = true}
  for _, account in ipairs(changed) do
    local id, capacity, broken, description = unpack(account)
    put(id, capacity, broken, external)
    call('HSET', K.table, id, description)
    named[id] = true
  end
  if version == 0 then
    for _, key in ipairs({K.accounts, K.table}) do
      for _, id in ipairs(call('HKEYS', key)) do
        if not named[id] then gone[#gone + 1] = id end
      end
    end
  end
  for _, id in ipairs(gone) do remove(id) end
  if version == 0 or #changed > 0 or #gone > 0 then
    version = higher(version)
    call('HSET', K.meta, 'version', version, 'accounts', call('HLEN', K.table))
  end
  done('fetch', claim)
  keep_keys()
  return leave(version)
end
