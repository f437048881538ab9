import io.github.falrpc.Errors;
import io.github.falrpc.Falrpc;
import io.github.falrpc.v1.*;
import io.github.falrpc.v1.FalServiceGrpc.FalServiceBlockingStub;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.*;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Uploads a picture, runs models in every way that falrpc offers, and handles what they refuse. */
public class Main {
  record Picture(String url, int width, int height) {}

  record CutOut(Picture image) {}

  record Drawing(List<Picture> images, BigInteger seed) {} // seeds have 64 bits and no sign

  public static void main(String[] arguments) {
    Path photo = Path.of(arguments.length > 0 ? arguments[0] : "../photo.jpg");
    try {
      ManagedChannel channel = connect();
      try {
        run(FalServiceGrpc.newBlockingStub(channel), photo);
      } finally {
        channel.shutdownNow();
      }
    } catch (StatusRuntimeException e) {
      exit(explain(e));
    } catch (IOException e) {
      exit(e.toString());
    }
  }

  static ManagedChannel connect() throws IOException {
    String address = System.getenv().getOrDefault("FALRPC_ADDRESS", "localhost:50051");
    String authorities = System.getenv("FALRPC_CA_FILE");
    if (authorities == null) {
      return Falrpc.channel(address).build();
    }
    var tls = TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
    return Falrpc.channel(address, tls).build();
  }

  static void run(FalServiceBlockingStub stub, Path photo) throws IOException {
    String token = System.getenv("FALRPC_TOKEN");
    FalServiceBlockingStub fal = token == null ? stub : stub.withCallCredentials(Falrpc.bearer(token));

    UploadHeader header = UploadHeader.newBuilder().setFileName(photo.getFileName().toString()).build();
    String url;
    try (InputStream file = Files.newInputStream(photo)) {
      url = Falrpc.upload(within(60, fal), header, file).getUrl();
    }
    System.out.println("uploaded   " + url);

    RunRequest cut =
        RunRequest.newBuilder()
            .setEndpointId("fal-ai/imageutils/rembg")
            .setInput(Falrpc.input(Map.of("image_url", url)))
            .build();
    Picture image = Falrpc.decode(within(60, fal).run(cut).getOutput(), CutOut.class).image();
    System.out.printf("cut out    %dx%d %s%n", image.width(), image.height(), image.url());

    var prompt = Map.of("prompt", "a happy robot", "seed", new BigInteger("15860307465884635512"));
    SubmitRequest draw =
        SubmitRequest.newBuilder().setEndpointId("fal-ai/fast-sdxl").setInput(Falrpc.input(prompt)).build();
    var subscribe = SubscribeRequest.newBuilder().setSubmit(draw).setIncludeLogs(true).build();
    within(600, fal).subscribe(subscribe).forEachRemaining(Main::printProgress);

    StreamWorkflowRequest workflow =
        StreamWorkflowRequest.newBuilder()
            .setEndpointId("workflows/fal-ai/sdxl-sticker")
            .setInput(Falrpc.input(Map.of("prompt", "a happy robot")))
            .build();
    within(600, fal).streamWorkflow(workflow).forEachRemaining(Main::printStep);

    RunRequest wrong =
        RunRequest.newBuilder()
            .setEndpointId("fal-ai/fast-sdxl")
            .setInput(Falrpc.input(Map.of("num_images", 99)))
            .build();
    try {
      within(60, fal).run(wrong);
    } catch (StatusRuntimeException e) {
      if (e.getStatus().getCode() != Status.Code.INVALID_ARGUMENT) {
        throw e;
      }
      for (var violation : Errors.fieldViolations(e)) {
        System.out.printf("refused    %s: %s%n", violation.getField(), violation.getDescription());
      }
    }

    SubmitRequest impatient = draw.toBuilder().setQueue(QueueOptions.newBuilder().setMaxQueueLength(1)).build();
    try {
      RequestHandle handle = within(60, fal).submit(impatient).getHandle();
      within(60, fal).cancel(CancelRequest.newBuilder().setHandle(handle).build());
      System.out.println("queued     " + handle.getRequestId() + ", cancelled");
    } catch (StatusRuntimeException e) {
      if (!Errors.reason(e).equals("QUEUE_TOO_LONG")) {
        throw e;
      }
      long seconds = Errors.retryAfter(e).orElseThrow().toSeconds();
      System.out.printf("quota      QUEUE_TOO_LONG, try again in %ds%n", seconds);
    }
  }

  /** A deadline is a point in time: each call needs its own. */
  static FalServiceBlockingStub within(int seconds, FalServiceBlockingStub fal) {
    return fal.withDeadlineAfter(seconds, TimeUnit.SECONDS);
  }

  static void printProgress(SubscribeResponse message) {
    switch (message.getKindCase()) {
      case ACCEPTED -> System.out.println("accepted   " + message.getAccepted().getRequestId());
      case STATUS -> {
        switch (message.getStatus().getState()) {
          case REQUEST_STATE_IN_QUEUE ->
              System.out.println("waiting    position " + message.getStatus().getQueuePosition());
          case REQUEST_STATE_IN_PROGRESS -> System.out.println("running");
          default -> {} // the result follows
        }
      }
      case LOGS -> message.getLogs().getEntriesList().forEach(
          entry -> System.out.println("log        " + entry.getMessage()));
      case RESULT -> {
        Drawing drawing = Falrpc.decode(message.getResult().getOutput(), Drawing.class);
        System.out.printf("picture    seed %d %s%n", drawing.seed(), drawing.images().get(0).url());
      }
      default -> {} // heartbeats, and what later versions add
    }
  }

  static void printStep(StreamWorkflowResponse event) {
    switch (event.getKindCase()) {
      case SUBMIT ->
          System.out.printf("step       %s %s submitted%n", event.getSubmit().getNodeId(), event.getSubmit().getAppId());
      case COMPLETION -> System.out.printf("step       %s completed%n", event.getCompletion().getNodeId());
      case ERROR ->
          System.out.printf("step       %s failed: %s%n", event.getError().getNodeId(), event.getError().getMessage());
      case OUTPUT -> {
        CutOut sticker = Falrpc.decode(event.getOutput().getOutput(), CutOut.class);
        System.out.println("sticker    " + sticker.image().url());
      }
      default -> {} // started, heartbeats, and what later versions add
    }
  }

  /** One line for people: the status, and what is behind it. */
  static String explain(StatusRuntimeException e) {
    Throwable root = e;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    Status status = e.getStatus();
    String cause = root == e ? "" : ": " + root;
    String hint = status.getCode() == Status.Code.UNAUTHENTICATED ? " (set FALRPC_TOKEN)" : "";
    return status.getCode() + ": " + status.getDescription() + cause + hint;
  }

  static void exit(String message) {
    System.err.println("falrpc: " + message.replaceAll("\\s+", " "));
    System.exit(1);
  }
}
