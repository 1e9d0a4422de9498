package services;

import dev.restate.sdk.SharedWorkflowContext;
import dev.restate.sdk.WorkflowContext;
import dev.restate.sdk.annotation.Shared;
import dev.restate.sdk.annotation.Workflow;
import dev.restate.sdk.common.DurablePromiseKey;

/** One promise. */
@Workflow
public class JavaWf {
  private static final DurablePromiseKey<String> END = DurablePromiseKey.of("end", String.class);

  @Workflow
  public String run(WorkflowContext ctx, String start) {
    return start + ctx.promise(END).future().await();
  }

  @Shared
  public void finish(SharedWorkflowContext ctx, String end) {
    ctx.promiseHandle(END).resolve(end);
  }
}
