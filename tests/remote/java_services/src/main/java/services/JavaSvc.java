package services;

import dev.restate.sdk.Context;
import dev.restate.sdk.DurableFuture;
import dev.restate.sdk.Select;
import dev.restate.sdk.annotation.Handler;
import dev.restate.sdk.annotation.Service;
import dev.restate.sdk.common.TerminalException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** What a context can do. */
@Service
public class JavaSvc {
  static void note(String line) throws IOException {
    Path ledger = Path.of(System.getenv("RS_LEDGER"));
    Files.writeString(ledger, line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
  }

  @Handler
  public String greet(Context ctx, String name) {
    String first = ctx.run("one", String.class, () -> name);
    ctx.sleep(Duration.ofMillis(5));
    return ctx.run("two", String.class, () -> first + "!");
  }

  @Handler
  public List<Integer> parallel(Context ctx, int count) {
    List<DurableFuture<Integer>> futures = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int number = i;
      futures.add(ctx.runAsync("p" + i, Integer.class, () -> {
        Thread.sleep(10);
        return number;
      }));
    }
    return futures.stream().map(DurableFuture::await).toList();
  }

  @Handler
  public int steps(Context ctx, int count) {
    for (int i = 0; i < count; i++) {
      int number = i;
      ctx.run("step " + i, Integer.class, () -> {
        note("step " + number);
        Thread.sleep(200);
        return number;
      });
    }
    return count;
  }

  @Handler
  public List<Object> caller(Context ctx, String name) {
    String greeting = JavaSvcClient.fromContext(ctx).greet(name).await();
    int count = JavaObjClient.fromContext(ctx, "called").add(5).await();
    JavaObjClient.fromContext(ctx, "called").send().add(2);
    return List.of(greeting, count);
  }

  @Handler
  public String waiter(Context ctx) {
    var awakeable = ctx.awakeable(String.class);
    JavaObjClient.fromContext(ctx, "awakeable").remember(awakeable.id()).await();
    return awakeable.await();
  }

  @Handler
  public String fails(Context ctx) {
    throw new TerminalException(418, "no way");
  }

  @Handler
  public String race(Context ctx) {
    return Select.<String>select()
        .when(ctx.timer(Duration.ofMinutes(1)), done -> "slow")
        .or(ctx.runAsync("fast", String.class, () -> "fast"))
        .await();
  }
}
