// Services written with the Restate SDK for Go, which use what a context can do. Served at the port given.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/server"
)

func note(line string) {
	ledger, err := os.OpenFile(os.Getenv("RS_LEDGER"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	defer ledger.Close()
	fmt.Fprintln(ledger, line)
}

func greet(ctx restate.Context, name string) (string, error) {
	first, err := restate.Run(ctx, func(restate.RunContext) (string, error) { return name, nil }, restate.WithName("one"))
	if err != nil {
		return "", err
	}
	if err := restate.Sleep(ctx, 5*time.Millisecond); err != nil {
		return "", err
	}
	return restate.Run(ctx, func(restate.RunContext) (string, error) { return first + "!", nil }, restate.WithName("two"))
}

func parallel(ctx restate.Context, count int) ([]int, error) {
	futures := make([]restate.RunAsyncFuture[int], count)
	for i := range futures {
		futures[i] = restate.RunAsync(ctx, func(restate.RunContext) (int, error) {
			time.Sleep(10 * time.Millisecond)
			return i, nil
		})
	}
	results := make([]int, count)
	for i, future := range futures {
		result, err := future.Result()
		if err != nil {
			return nil, err
		}
		results[i] = result
	}
	return results, nil
}

func steps(ctx restate.Context, count int) (int, error) {
	for i := range count {
		_, err := restate.Run(ctx, func(restate.RunContext) (int, error) {
			note(fmt.Sprintf("step %d", i))
			time.Sleep(200 * time.Millisecond)
			return i, nil
		})
		if err != nil {
			return 0, err
		}
	}
	return count, nil
}

func caller(ctx restate.Context, name string) ([]any, error) {
	greeting, err := restate.Service[string](ctx, "GoSvc", "greet").Request(name)
	if err != nil {
		return nil, err
	}
	count, err := restate.Object[int](ctx, "GoObj", "called", "add").Request(5)
	if err != nil {
		return nil, err
	}
	restate.ObjectSend(ctx, "GoObj", "called", "add").Send(2, restate.WithDelay(time.Millisecond))
	return []any{greeting, count}, nil
}

func waiter(ctx restate.Context) (string, error) {
	awakeable := restate.Awakeable[string](ctx)
	if _, err := restate.Object[restate.Void](ctx, "GoObj", "awakeable", "remember").Request(awakeable.Id()); err != nil {
		return "", err
	}
	return awakeable.Result()
}

func fails(restate.Context) (string, error) {
	return "", restate.ToTerminalError(fmt.Errorf("no way"), restate.WithErrorCode(418))
}

func race(ctx restate.Context) (string, error) {
	slow := restate.After(ctx, time.Minute)
	fast := restate.RunAsync(ctx, func(restate.RunContext) (string, error) { return "fast", nil })
	first, err := restate.WaitFirst(ctx, slow, fast)
	if err != nil {
		return "", err
	}
	if first == slow {
		return "slow", nil
	}
	return fast.Result()
}

func add(ctx restate.ObjectContext, n int) (int, error) {
	before, err := restate.Get[int](ctx, "n")
	if err != nil {
		return 0, err
	}
	restate.Set(ctx, "n", before+n)
	return before + n, nil
}

func remember(ctx restate.ObjectContext, id string) (restate.Void, error) {
	restate.Set(ctx, "id", id)
	return restate.Void{}, nil
}

func recall(ctx restate.ObjectSharedContext) (map[string]any, error) {
	out := map[string]any{}
	names, err := restate.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if out[name], err = restate.Get[any](ctx, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func run(ctx restate.WorkflowContext, start string) (string, error) {
	end, err := restate.Promise[string](ctx, "end").Result()
	return start + end, err
}

func finish(ctx restate.WorkflowSharedContext, end string) (restate.Void, error) {
	if err := restate.Promise[string](ctx, "end").Resolve(end); err != nil {
		return restate.Void{}, err
	}
	return restate.Void{}, nil
}

func withoutInput[C any, O any](handler func(C) (O, error)) func(C, restate.Void) (O, error) {
	return func(ctx C, _ restate.Void) (O, error) { return handler(ctx) }
}

func main() {
	service := restate.NewService("GoSvc").
		Handler("greet", restate.NewServiceHandler(greet)).
		Handler("parallel", restate.NewServiceHandler(parallel)).
		Handler("steps", restate.NewServiceHandler(steps)).
		Handler("caller", restate.NewServiceHandler(caller)).
		Handler("waiter", restate.NewServiceHandler(withoutInput(waiter))).
		Handler("fails", restate.NewServiceHandler(withoutInput(fails))).
		Handler("race", restate.NewServiceHandler(withoutInput(race)))
	object := restate.NewObject("GoObj").
		Handler("add", restate.NewObjectHandler(add)).
		Handler("remember", restate.NewObjectHandler(remember)).
		Handler("recall", restate.NewObjectSharedHandler(withoutInput(recall)))
	workflow := restate.NewWorkflow("GoWf").
		Handler("run", restate.NewWorkflowHandler(run)).
		Handler("finish", restate.NewWorkflowSharedHandler(finish))
	endpoint := server.NewRestate().Bind(service).Bind(object).Bind(workflow)
	if err := endpoint.Start(context.Background(), "127.0.0.1:"+os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
