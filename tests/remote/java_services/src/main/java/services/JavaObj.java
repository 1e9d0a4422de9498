package services;

import dev.restate.sdk.ObjectContext;
import dev.restate.sdk.SharedObjectContext;
import dev.restate.sdk.annotation.Handler;
import dev.restate.sdk.annotation.Shared;
import dev.restate.sdk.annotation.VirtualObject;
import dev.restate.sdk.common.StateKey;
import java.util.HashMap;
import java.util.Map;

/** A key's state. */
@VirtualObject
public class JavaObj {
  private static final StateKey<Integer> NUMBER = StateKey.of("n", Integer.class);
  private static final StateKey<String> ID = StateKey.of("id", String.class);

  @Handler
  public int add(ObjectContext ctx, int n) {
    int value = ctx.get(NUMBER).orElse(0) + n;
    ctx.set(NUMBER, value);
    return value;
  }

  @Handler
  public void remember(ObjectContext ctx, String id) {
    ctx.set(ID, id);
  }

  @Shared
  public Map<String, Object> recall(SharedObjectContext ctx) {
    Map<String, Object> out = new HashMap<>();
    for (String name : ctx.stateKeys()) {
      ctx.get(StateKey.of(name, Object.class)).ifPresent(value -> out.put(name, value));
    }
    return out;
  }
}
